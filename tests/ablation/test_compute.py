"""Decisions before and during the training of a cell; whole trainings are in test_ablate.py."""

import dataclasses
from types import SimpleNamespace

import pytest
from ablation_jobs import tasks

from jaxdodge.ablation import compute
from jaxdodge.ablation.tasks import Task, training_key
from jaxdodge.fields import ConfigError
from jaxdodge.runs.memory import TooLargeError


@pytest.fixture
def task(tmp_path) -> Task:
    """Five seeds of a small training."""
    (task,) = tasks(tmp_path, "cell")
    game = dataclasses.replace(task.game, max_episode_steps=30)
    train = dataclasses.replace(
        task.train,
        seed=3,
        seeds=5,
        total_timesteps=51_200,
        num_envs=2560,
        net_arch=(8,),
        buffer_size=25_600,
        batch_size=16,
        gradient_steps=2,
        eval_freq=25_600,
        n_eval_episodes=4,
    )
    key = training_key(game, train, None)
    return dataclasses.replace(task, key=key, game=game, train=train, conditions={"c": game})


@pytest.fixture
def most(monkeypatch) -> SimpleNamespace:
    """Sets how many `seeds` fit into memory together; `make` replaces the training."""
    most = SimpleNamespace(seeds=2, make=lambda *_: None)

    def training(game, train):
        if train.seeds > most.seeds:
            raise TooLargeError("buffer_size: invalid value 5")
        return most.make(game, train)

    monkeypatch.setattr(compute, "Training", training)
    return most


def seeds(groups: list[Task]) -> list[tuple[int, int]]:
    return [(part.train.seed, part.train.seeds) for part in groups]


def test_seeds_are_trained_in_the_fewest_groups_that_fit(task, most):
    assert seeds(compute.fitting(task)[1]) == [(3, 2), (5, 2), (7, 1)]
    most.seeds = 3
    assert seeds(compute.fitting(task)[1]) == [(3, 3), (6, 2)]
    most.seeds = 5
    assert seeds(compute.fitting(task)[1]) == [(3, 5)]
    most.seeds = 0
    with pytest.raises(TooLargeError):
        compute.fitting(task)


def test_after_an_interruption_no_other_group_starts(task, most):
    begun = []

    def interrupted_at_once(_, train):
        return SimpleNamespace(start=lambda: None, learn=lambda *_: begun.append(train.seed))

    most.make = interrupted_at_once
    assert list(compute.compute(task, interrupted=lambda: "Ctrl-C")) == []
    assert begun == [3]


def test_a_task_of_other_code_is_rejected(task, most):
    with pytest.raises(ConfigError, match="the code on this machine differs from the study's"):
        next(compute.compute(dataclasses.replace(task, key="0" * 16)))
    assert not list(task.folder.iterdir())


def test_minutes_start_after_the_first_epoch_and_resume():
    clock, reports = [500.0], []
    for before, spent in ((0.0, 0.5), (15.0, 0.75)):
        progress = compute.BudgetProgress(reports.append, 1.0, before).begin(
            2_000_000_000, 0, lambda: clock[0]
        )
        clock[0] += 100
        assert progress.spent == 0
        progress.advance(25_600, {}, None)
        assert progress.spent == before / 60
        clock[0] += 30
        progress.advance(25_600, {}, 2e9)
        assert progress.spent == spent
        assert reports[-1] == {"done": spent, "left": 60 * (1 - spent)}
