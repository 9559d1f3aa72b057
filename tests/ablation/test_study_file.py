"""Study files: the cells they define, and every error with its line."""

from pathlib import Path

import pytest
import yaml

from jaxdodge.ablation.study import timesteps_of
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import cell_results
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import changed_game, split
from jaxdodge.runs.options import DEFAULTS

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))
FIVE = ("batch_size", "gradient_steps", "n_step", "policy_delay", "train_freq")
GOOD = """\
question: Which?
base:
  gamma: 0.9
factors:
  frame_stack: [1, 2]
  timing:
    every frame: {frames_per_step: 1, response_frame: full}
    lagging: {frames_per_step: 7, response_frame: 0}
seeds: 2
budget: {total_timesteps: 30_000}
evaluate:
  episodes: 8
  conditions:
    as trained:
    slow: {fps: 30}
"""


def write(tmp_path, text: str) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_cells_are_the_grid_of_the_factors(tmp_path):
    study = read_study(write(tmp_path, GOOD))
    assert study.factors == {"frame_stack": ["1", "2"], "timing": ["every frame", "lagging"]}
    assert [cell.name for cell in study.cells] == [
        "frame_stack 1, timing every frame",
        "frame_stack 1, timing lagging",
        "frame_stack 2, timing every frame",
        "frame_stack 2, timing lagging",
    ]
    configurations = [cell.configuration() for cell in study.cells]
    assert [(game.frame_stack, game.frames_per_step, game.response_frame) for game, _ in configurations] == [
        (1, 1, 1),
        (1, 7, 0),
        (2, 1, 1),
        (2, 7, 0),
    ]
    assert {(game.level, train.gamma, train.total_timesteps) for game, train in configurations} == {
        (2, 0.9, 30_000)
    }
    assert (study.seeds, study.episodes) == (2, 8)
    assert study.conditions == {"as trained": {}, "slow": {"fps": 30.0}}


def test_listed_cells_grid_of_conditions_and_full_version(tmp_path):
    content = yaml.safe_load(GOOD)
    content["cells"] = [
        {"timing": "lagging", "frame_stack": 2},
        {"frame_stack": 1, "timing": "every frame"},
    ]
    content["evaluate"] = {"grid": {"frames_per_step": [1, 7], "response_frame": [0, "full"]}}
    content["full"] = {"base": {"num_envs": 64}, "budget": {"updates": 100}, "seeds": 5}
    file = write(tmp_path, yaml.safe_dump(content))
    study = read_study(file)
    assert [cell.name for cell in study.cells] == [
        "frame_stack 2, timing lagging",
        "frame_stack 1, timing every frame",
    ]
    assert [*study.conditions.items()][1] == (
        "frames_per_step 1, response_frame full",
        {"frames_per_step": 1, "response_frame": None},
    )
    full = read_study(file, full=True)
    game, train = full.cells[0].configuration()
    assert (train.num_envs, train.gamma, full.seeds, game.frame_stack) == (64, 0.9, 5, 2)
    assert train.total_timesteps == timesteps_of(100, game, train)


def test_an_invalid_condition_is_named(tmp_path):
    text = GOOD.replace("slow: {fps: 30}", "late: {response_frame: 5}")
    errors = [outcome.error for outcome in cell_results(read_study(write(tmp_path, text)), tmp_path)]
    assert [error and error.split(";")[0] for error in errors] == [
        "condition late: response_frame: invalid value 5",
        None,
        "condition late: response_frame: invalid value 5",
        None,
    ]


def test_a_budget_in_minutes_sets_no_other_limit(tmp_path):
    text = GOOD.replace("{total_timesteps: 30_000}", "{minutes: 2}")
    study = read_study(write(tmp_path, text))
    _, train = study.cells[0].configuration()
    assert (study.minutes, train.learning_rate_schedule) == (2, "constant")
    assert train.total_timesteps == 2_000_000_000
    text = text.replace("frame_stack: [1, 2]", "learning_rate_schedule: [linear, constant]")
    with pytest.raises(ConfigError, match=r":5: factors\.learning_rate_schedule: sets learning_rate_sched"):
        read_study(write(tmp_path, text))


def test_cells_without_an_update_are_invalid(tmp_path):
    text = GOOD.replace("gamma: 0.9", "learning_starts: 40_000")
    errors = [cell.error for cell in cell_results(read_study(write(tmp_path, text)), tmp_path)]
    assert len(errors) == 4
    assert all(error.startswith("total_timesteps: invalid value 30000; expected at") for error in errors)
    text = text.replace("40_000", "9_000_000").replace("{total_timesteps: 30_000}", "{updates: 16}")
    study = read_study(write(tmp_path, text))
    assert {cell.configuration()[1].total_timesteps for cell in study.cells} == {9_000_960}


@pytest.mark.parametrize("updates", [1, 16, 17, 100])
@pytest.mark.parametrize(
    "fields", [{}, {"train_freq": 3, "learning_starts": 4999, "frame_stack": 9, "n_step": 7}]
)
def test_a_budget_in_updates_is_the_fewest_environment_steps(updates, fields):
    game, train = split({**DEFAULTS, **fields})
    total = timesteps_of(updates, game, train)

    def made(timesteps: int) -> int:
        """The number of updates, with the update condition of the training epoch."""
        needed = max(game.frame_stack - 1, 1) + train.n_step + 2
        steps = range(1, timesteps // train.num_envs + 1)
        learning = [
            step % train.train_freq == 0 and step >= needed and step * train.num_envs >= train.learning_starts
            for step in steps
        ]
        return train.gradient_steps * sum(learning)

    assert made(total) >= updates > made(total - train.num_envs)


def test_a_preset_provides_defaults_for_base(tmp_path):
    (tmp_path / "preset.yaml").write_text("gamma: 0.5\ntau: 0.1\nseeds: 7\n")
    text = GOOD.replace("gamma: 0.9", "preset: preset.yaml\n  tau: 0.2")
    _, train = read_study(write(tmp_path, text)).cells[0].configuration()
    assert (train.gamma, train.tau, train.seeds) == (0.5, 0.2, 1)
    text = GOOD.replace("base:\n  gamma: 0.9", "base: preset.yaml")
    _, train = read_study(write(tmp_path, text)).cells[0].configuration()
    assert (train.gamma, train.tau) == (0.5, 0.1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("question: Which?\n", "", ":1: question: must be text: the question that the study answers"),
        (
            "seeds: 2",
            "seed: 2",
            ":9: seed: no such field of a study; did you mean seeds? (expected: question, ",
        ),
        ("seeds: 2", "seeds: 0", ":9: seeds: invalid value 0; expected a whole number, 1 <= value <= 1000"),
        ("seeds: 2", "seeds: 2\nseeds: 3", ":10: seeds: duplicate key"),
        (
            "gamma: 0.9",
            "gama: 0.9",
            ":3: base.gama: no such field of the game or the training; did you mean gamma? (",
        ),
        ("gamma: 0.9", "gamma: 9", ":3: base.gamma: invalid value 9; expected a number, 0 <= value <= 1"),
        ("gamma: 0.9", "seeds: 3", ":3: base.seeds: not allowed here; it is a key of the study"),
        ("gamma: 0.9", "preset: none.yaml", ":3: base.preset: "),
        (
            "frame_stack:",
            "frame_stak:",
            ":5: factors.frame_stak: no such field of the game or the training; did you",
        ),
        ("[1, 2]", "[]", ":5: factors.frame_stack: must have at least one level"),
        ("[1, 2]", "7", ":5: factors.frame_stack: must be a list of values, or a mapping of names to fields"),
        (
            "[1, 2]",
            "[1, 0]",
            ":5: factors.frame_stack.1: invalid value 0; expected a whole number, 1 <= value <= 64",
        ),
        ("[1, 2]", "[1, 1]", ":5: factors.frame_stack: two levels have the same name"),
        ("[1, 2]", "[1, 1.0]", ":5: factors.frame_stack.1: invalid value 1.0"),
        (
            "frame_stack: [1, 2]",
            "total_timesteps: [1, 2]",
            ":5: factors.total_timesteps: not allowed here; use `budget`",
        ),
        (
            "frame_stack: [1, 2]",
            "response_frame: [0, full]",
            ":6: factors.timing: sets response_frame, as factor ",
        ),
        (
            "response_frame: 0}",
            "respons: 0}",
            ":8: factors.timing.lagging.respons: no such field of the game or the",
        ),
        (
            "{frames_per_step: 7, response_frame: 0}",
            "3",
            ":8: factors.timing.lagging: must be a mapping of fields",
        ),
        (
            "{frames_per_step: 7, response_frame: 0}",
            "{response_frame: 1, frames_per_step: 1}",
            ":4: factors: duplicate cell: frame_stack 1, timing lagging equals frame_stack 1",
        ),
        ("seeds: 2", "cells: []", ":9: cells: must be a list with at least one item"),
        ("seeds: 2", "cells:\n- {frame_stack: 1}", ":10: cells.0: missing level of factor timing"),
        (
            "seeds: 2",
            "cells:\n- {frame_stack: 3, timing: lagging}",
            ":10: cells.0.frame_stack: no level 3; expected 1, 2",
        ),
        (
            "seeds: 2",
            "cells:\n- {frame_stack: 1, timing: lagging}\n- {timing: lagging, frame_stack: 1}",
            ":11: cells.1: duplicate cell: frame_stack 1, timing lagging equals",
        ),
        (
            "budget: {total_timesteps: 30_000}",
            "",
            ":1: budget: missing; expected one of total_",
        ),
        ("{total_timesteps: 30_000}", "{hours: 2}", ":10: budget.hours: no such field of a budget"),
        (
            "{total_timesteps: 30_000}",
            "{minutes: 2, updates: 3}",
            ":10: budget: must be one of total_timesteps, updates",
        ),
        (
            "{total_timesteps: 30_000}",
            "{minutes: 0}",
            ":10: budget.minutes: invalid value 0; expected a number, 0 < value",
        ),
        ("{total_timesteps: 30_000}", "10", ":10: budget: must be one of"),
        (
            "episodes: 8",
            "episodes: many",
            ":12: evaluate.episodes: invalid value 'many'; expected a whole number",
        ),
        ("{fps: 30}", "{gamma: 1}", ":15: evaluate.conditions.slow.gamma: no such field of the game"),
        (
            "{fps: 30}",
            "{fps: 3}",
            ":15: evaluate.conditions.slow.fps: invalid value 3; expected a number, 4 <= value",
        ),
        ("seeds: 2", "full: {full: 3}", ":9: full.full: no such field of a study"),
        ("question: Which?", "question: [", ": not valid YAML ("),
        ("question: Which?", f"question: {'[' * 600}", ": not valid YAML ("),
        ("gamma: 0.9", "gamma: &a {x: *a}", ": not valid YAML (recursive alias in line 3)"),
        (
            "frame_stack: [1, 2]",
            "frame_stack: &a [1, *a]",
            ": not valid YAML (recursive alias in line 5)",
        ),
        ("question: Which?", "- 1", ": not valid YAML ("),
        (
            "frame_stack: [1, 2]",
            "\n  ".join(f"{name}: {[*range(1, 101)]}" for name in FIVE),
            ":4: factors: invalid value 20000000000 cells; expected at most 10000",
        ),
    ],
)
def test_an_error_is_one_line_with_file_and_line_number(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    file = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        read_study(file)
    assert str(raised.value).startswith(f"{file}{message}")
    assert "\n" not in str(raised.value)


def test_files_that_are_not_studies(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read \(No such file"):
        read_study(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="must be a YAML mapping"):
        read_study(write(tmp_path, "[1]"))
    with pytest.raises(ConfigError, match="full: no such section; the study has only one version"):
        read_study(write(tmp_path, GOOD), full=True)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_cell_of_the_shipped_studies_is_valid(file, full):
    study = read_study(file, full)
    assert study.question.endswith("?")
    for cell in study.cells:
        game, _ = cell.configuration()
        for fields in study.conditions.values():
            changed_game(game, fields)


def test_all_studies_are_shipped():
    stacking = ["stacking_by_resolution", "stacking_drawn", "stacking_every_frame"]
    names = ["agent", "image_agent", "observation", "spawn_angle", *stacking, "timing"]
    assert [file.stem for file in SHIPPED] == names
