"""Keys of cells, and the files of their results."""

import dataclasses
import json
import random

import pytest
import yaml
from ablation_jobs import result
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.status_display import StatusDisplay
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import cell_results, run_missing
from jaxdodge.ablation.tasks import Task, condition_key, program_key, training_key
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.runs.folder import split
from jaxdodge.runs.options import DEFAULTS

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "level": st.sampled_from([1, 2]),
        "spawn_angle_degrees": st.floats(1, 180, width=32),
        "frames_per_step": st.integers(1, 9),
        "frame_stack": st.integers(1, 3),
        "gamma": st.floats(0, 1, width=32),
        "net_arch": st.lists(st.integers(1, 64), min_size=1, max_size=2),
        "normalize_observations": st.booleans(),
    },
)


def key(fields: dict) -> str:
    return training_key(*split({**DEFAULTS, "response_frame": None, **fields}), None)


@settings(max_examples=50)
@given(FIELDS, st.randoms(use_true_random=False))
def test_a_key_ignores_order_and_explicit_defaults(fields, shuffler: random.Random):
    game, train = split({**DEFAULTS, "response_frame": None, **fields})
    written = [*(dataclasses.asdict(game) | dataclasses.asdict(train)).items()]
    shuffler.shuffle(written)
    assert key(fields) == key(dict(written))


@settings(max_examples=50)
@given(FIELDS, FIELDS)
def test_keys_are_equal_if_and_only_if_configurations_are(one, other):
    same = split({**DEFAULTS, "response_frame": None, **one}) == split(
        {**DEFAULTS, "response_frame": None, **other}
    )
    assert (key(one) == key(other)) == same


@settings(max_examples=20)
@given(st.permutations(["question", "base", "factors", "seeds", "budget"]), st.booleans())
def test_the_order_of_a_file_does_not_change_its_cells(tmp_path_factory, order, written_out):
    content = {
        "question": "Which?",
        "base": {"gamma": 0.9} | ({"tau": 0.005, "batch_size": 256.0 and 256} if written_out else {}),
        "factors": {"frame_stack": [1, 2]},
        "seeds": 2,
        "budget": {"total_timesteps": 30_000},
    }
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(yaml.safe_dump({name: content[name] for name in order}, sort_keys=False))
    keys = [training_key(*cell.configuration(), None) for cell in read_study(file).cells]
    fields = {"gamma": 0.9, "total_timesteps": 30_000, "response_frame": 0}
    assert keys == [key(fields | {"frame_stack": stack}) for stack in (1, 2)]


def test_cells_run_in_the_studys_order_and_those_with_one_program_together(tmp_path):
    content = {
        "question": "Which?",
        "factors": {"spawn_angle_degrees": [60, 30], "frame_stack": [2, 1]},
        "budget": {"updates": 100},
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    cells = cell_results(read_study(file), tmp_path)
    executed: list[Task] = []
    display = StatusDisplay([cell.cell.name for cell in cells])
    run_missing(cells, ResultStore(tmp_path), lambda tasks: executed.extend(tasks) or iter(()), display)
    # The angle is an argument of the compiled program; the frame stack is not.
    order = [(task.game.frame_stack, task.game.spawn_angle_degrees) for task in executed]
    assert order == [(2, 60), (2, 30), (1, 60), (1, 30)]


def test_a_key_ignores_seeds_and_includes_minutes():
    game, train = split(DEFAULTS)
    other = dataclasses.replace(train, seed=5, seeds=3)
    assert training_key(game, train, None) == training_key(game, other, None)
    assert training_key(game, train, None) != training_key(game, train, 1.0)
    assert condition_key(game, 8) != condition_key(game, 9)


@pytest.fixture
def task(tmp_path) -> Task:
    game = GameConfig(action_space_type="basic_3d")
    return Task("cell", "abc", game, TrainConfig(seeds=3), None, {"one": game}, 4, tmp_path / "runs")


def test_only_new_seeds_and_conditions_are_missing(task, tmp_path):
    store = ResultStore(tmp_path / "cells")
    assert store.missing(task) == [task]
    store.write(task.name, result(task))
    assert store.missing(task) == []
    # Fewer seeds and no new ones; more seeds; another condition; another cell.
    assert store.missing(task.with_seeds(1, 1)) == []
    assert store.missing(task.with_seeds(0, 5)) == [task.with_seeds(3, 2)]
    more = dataclasses.replace(task, conditions=task.conditions | {"two": task.game})
    (evaluation,) = store.missing(more)
    assert (evaluation.train, evaluation.conditions) == (task.train, {"two": task.game})
    assert store.missing(dataclasses.replace(task, key="abd")) == [dataclasses.replace(task, key="abd")]

    later = result(evaluation, 2.0)
    store.write(task.name, later | {"cost": {"evaluation_seconds": 2.0, "memory_bytes": 4}})
    (merged,) = store.results("abc")
    assert merged["cost"] == {"evaluation_seconds": 3.0, "memory_bytes": 10}
    assert {name: [one["mean"] for one in each] for name, each in merged["evaluations"].items()} == {
        "one": [1.0] * 3,
        "two": [2.0] * 3,
    }
    assert store.missing(more) == []


def test_groups_of_seeds_form_one_cell(task, tmp_path):
    store = ResultStore(tmp_path)
    store.write("abc.2-2", result(task.with_seeds(2, 1)))
    assert store.missing(task) == [task.with_seeds(0, 2)]
    store.write("abc.0-1", result(task.with_seeds(0, 2)))
    assert store.missing(task) == []
    assert [one["seeds"] for one in store.results("abc")] == [[0, 1], [2]]


def test_groups_have_all_seeds_and_nearly_equal_sizes(task):
    ten = task.with_seeds(7, 10)
    assert ten.split(1) == [ten]
    assert [(part.train.seed, part.train.seeds) for part in ten.split(4)] == [
        *((7, 3), (10, 3)),
        *((13, 2), (15, 2)),
    ]
    assert [part.train.seed for part in ten.split(10)] == [*range(7, 17)]
    # Groups of one size share a program.
    assert len({program_key(part) for part in ten.split(4)}) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"key": "other", "seeds": [0, 1, 2]}'])
def test_a_damaged_file_counts_as_missing(task, tmp_path, content):
    (tmp_path / f"{task.name}.json").write_text(content)
    assert ResultStore(tmp_path).missing(task) == [task]


def test_a_divergence_is_a_result(task, tmp_path):
    store = ResultStore(tmp_path)
    store.write(task.name, {"key": "abc", "seeds": [0, 1, 2], "error": "value is not finite"})
    assert store.missing(task) == []
    assert json.loads((tmp_path / "abc.0-2.json").read_text())["error"] == "value is not finite"
