"""What holds for all study files: the grid is the product, and nonsense is refused in one line."""

import copy
import itertools
import math
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdodge.ablation.running import outcomes_of
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_file import read_study
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
    "budget": {"total_timesteps": 1000},
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
@settings(max_examples=60, derandomize=True)
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
    assert len({outcome.task.key for outcome in outcomes_of(study, Path())}) == len(study.cells)


def places(value: object, way: tuple = ()) -> list[tuple]:
    """Ways to everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for step, each in inner for place in places(each, (*way, step)))]


@given(st.data(), st.booleans())
@settings(max_examples=300, derandomize=True, deadline=None)
def test_a_study_with_nonsense_in_a_place_is_read_or_refused_in_one_line(tmp_path_factory, data, full):
    content = copy.deepcopy(GOOD)
    way = data.draw(st.sampled_from(places(content)[1:]))
    owner = content
    for step in way[:-1]:
        owner = owner[step]
    if data.draw(st.booleans()) and isinstance(owner, dict):
        owner[data.draw(NAMES)] = owner.pop(way[-1])
    else:
        owner[way[-1]] = data.draw(VALUES)
    try:
        study = read(tmp_path_factory.mktemp("nonsense"), content, full)
    except ConfigError as error:
        refusal = str(error)
    else:
        for outcome in outcomes_of(study, Path()):
            assert (outcome.task is None) == (outcome.error is not None)
        return
    assert "\n" not in refusal
    assert "study.yaml:" in refusal
