"""Properties of all study files: cells are the product of the levels; errors are one line."""

import copy
import itertools
import math
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import cell_results
from jaxdodge.fields import ConfigError

GOOD = {
    "question": "Which?",
    "base": {"level": 2, "gamma": 0.9},
    "factors": {
        "frame_stack": [1, 2],
        "timing": {"every frame": {"frames_per_step": 1, "response_frame": "full"}, "as it is": None},
    },
    "cells": [{"frame_stack": 1, "timing": "as it is"}],
    "seeds": 2,
    "budget": {"total_timesteps": 30_000},
    "evaluate": {"episodes": 8, "conditions": {"slow": {"fps": 30}}, "grid": {"frames_per_step": [1, 2]}},
    "full": {"seeds": 5, "base": {"gamma": 0.99}},
}
LEVELS = {
    "frame_stack": st.integers(1, 9),
    "gamma": st.floats(0, 1, width=32),
    "net_arch": st.lists(st.integers(1, 64), min_size=1, max_size=3),
    "observe_previous_action": st.booleans(),
    "spawn_angle_degrees": st.floats(1, 180, width=32),
}
FACTORS = st.fixed_dictionaries(
    {}, optional={name: st.lists(level, min_size=1, max_size=3) for name, level in LEVELS.items()}
)
NAMES = st.sampled_from(["gamma", "level", "frame_stack", "preset", "minutes", "x", 3, None, True])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def read(folder: Path, content: object, full: bool = False) -> Study:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(file, full)


@given(FACTORS.filter(bool))
@settings(max_examples=40, derandomize=True)
def test_the_grid_is_the_product_of_the_levels(tmp_path_factory, factors):
    factors = {name: [*{str(level): level for level in levels}.values()] for name, levels in factors.items()}
    content = {"question": "?", "factors": factors, "budget": {"updates": 100}}
    study = read(tmp_path_factory.mktemp("grid"), content)
    assert len(study.cells) == math.prod(map(len, factors.values()))
    assert len({cell.name for cell in study.cells}) == len(study.cells)
    for cell, levels in zip(study.cells, itertools.product(*factors.values()), strict=True):
        game, train = cell.configuration()
        fields = vars(game) | vars(train) | {"net_arch": [*train.net_arch]}
        assert {name: fields[name] for name in factors} == dict(zip(factors, levels, strict=True))
    assert len({cell.task.key for cell in cell_results(study, Path())}) == len(study.cells)


def key_paths(value: object, key_path: tuple = ()) -> list[tuple]:
    """Key paths of all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [key_path, *(path for key, each in inner for path in key_paths(each, (*key_path, key)))]


@given(st.data(), st.booleans())
@settings(max_examples=150, derandomize=True, deadline=None)
def test_a_study_with_a_random_change_is_read_or_rejected_in_one_line(tmp_path_factory, data, full):
    content = copy.deepcopy(GOOD)
    key_path = data.draw(st.sampled_from(key_paths(content)[1:]))
    owner = content
    for key in key_path[:-1]:
        owner = owner[key]
    if data.draw(st.booleans()) and isinstance(owner, dict):
        owner[data.draw(NAMES)] = owner.pop(key_path[-1])
    else:
        owner[key_path[-1]] = data.draw(VALUES)
    try:
        study = read(tmp_path_factory.mktemp("changed"), content, full)
    except ConfigError as error:
        message = str(error)
    else:
        for cell in cell_results(study, Path()):
            assert (cell.task is None) == (cell.error is not None)
        return
    assert "\n" not in message
    assert "study.yaml:" in message
