"""What a cell's process decides before and while it trains; whole trainings are in test_ablate."""

import dataclasses
from types import SimpleNamespace

import pytest
from ablation_jobs import tasks

from jaxdodge.ablation import compute
from jaxdodge.ablation.calibration import in_all
from jaxdodge.ablation.cells import Task, training_key
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
    """As many `seeds` as fit together; in place of trainings, `make`."""
    most = SimpleNamespace(seeds=2, make=lambda *_: None)

    def training(game, train):
        if train.seeds > most.seeds:
            raise TooLargeError("buffer_size: invalid value 5")
        return most.make(game, train)

    monkeypatch.setattr(compute, "Training", training)
    return most


def seeds(parts: list[Task]) -> list[tuple[int, int]]:
    return [(part.train.seed, part.train.seeds) for part in parts]


def test_seeds_that_do_not_fit_are_trained_in_the_fewest_parts_that_do(task, most):
    assert seeds(compute.fitting(task)[1]) == [(3, 2), (5, 2), (7, 1)]
    most.seeds = 3
    assert seeds(compute.fitting(task)[1]) == [(3, 3), (6, 2)]
    most.seeds = 5
    assert seeds(compute.fitting(task)[1]) == [(3, 5)]
    most.seeds = 0
    with pytest.raises(TooLargeError):
        compute.fitting(task)


def test_after_a_part_that_was_interrupted_no_other_begins(task, most):
    begun = []

    def interrupted_at_once(_, train):
        return SimpleNamespace(start=lambda: None, learn=lambda *_: begun.append(train.seed))

    most.make = interrupted_at_once
    assert list(compute.compute(task, interrupted=lambda: "Ctrl-C")) == []
    assert begun == [3]


def test_an_estimate_has_the_parts_of_the_training(task, most):
    """Three parts of two sizes; five seeds, of 2 times 4 episodes while training and 2 afterwards."""
    _, parts = compute.fitting(task)
    found = in_all(task, parts, compiled=10.0, epochs=100.0, episode=1.0)
    assert found == {"compile": 20, "epochs": 300, "evaluations": 50}
    timed = in_all(dataclasses.replace(task, minutes=2.0), parts, compiled=10.0, epochs=100.0, episode=1.0)
    assert timed == {"compile": 20, "epochs": 360, "evaluations": 10}


def test_a_result_is_not_filed_under_code_that_did_not_make_it(task, most):
    with pytest.raises(ConfigError, match="the code here is another than the study's"):
        next(compute.compute(dataclasses.replace(task, key="0" * 16)))
    assert not list(task.folder.iterdir())


def test_minutes_begin_after_the_first_epoch_and_go_on_where_they_were():
    clock, told = [500.0], []
    for before, spent in ((0.0, 0.5), (15.0, 0.75)):
        progress = compute.Progress(told.append, 1.0, before).begin(2_000_000_000, 0, lambda: clock[0])
        clock[0] += 100
        assert progress.spent == 0
        progress.advance(25_600, {"steps_per_second": 1.0})
        assert progress.spent == before / 60
        clock[0] += 30
        progress.advance(25_600, {"steps_per_second": 1.0})
        assert progress.spent == spent
        assert told[-1] == {"done": spent, "left": 60 * (1 - spent)}
