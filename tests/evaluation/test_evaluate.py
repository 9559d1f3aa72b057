"""The command `evaluate`: what it prints and writes, and every error."""

import csv
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdodge import evaluate
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.randomization import randomized_env
from jaxdodge.agents.train_config import DomainRandomization, TrainConfig
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.evaluation import episodes as evaluation
from jaxdodge.evaluation.episodes import Episodes
from jaxdodge.runs import conditions
from jaxdodge.runs.folder import Run

GAME = GameConfig(
    level=2, action_space_type="basic_3d", frames_per_step=7, response_frame=0, max_episode_steps=40
)
TRAIN = TrainConfig(net_arch=(8,))


def _random_policy(seed: int):
    generator = np.random.default_rng(seed)
    shapes = make_trainer(GAME, TRAIN).policy_shapes()
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """A run of three seeds, whose policies were never trained."""
    parent: Path = tmp_path_factory.mktemp("results") / "run"
    for seed in range(3):
        run = Run.create(parent.parent, f"{seed}", GAME, dataclasses.replace(TRAIN, seed=seed))
        run.save_policy("best", _random_policy(seed))
        shutil.move(run.folder, parent / f"seed_{seed}")
    return parent


@pytest.fixture
def fake(monkeypatch):
    """Fake episodes: returns are frames_per_step times 0, 1, 2 ...; every second one survives."""

    def play(env, policy, weights, params, key, episodes, sampled, draw_params):
        index = np.arange(episodes)
        return Episodes(np.float32(index * env.config.frames_per_step), index + 10, index % 2 == 0)

    monkeypatch.setattr(evaluation, "evaluate", play)


def _evaluate(*arguments: object) -> int:
    return guarded(evaluate.evaluate, [str(argument) for argument in arguments])


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_played_and_written(seeds, tmp_path, capsys):
    path = tmp_path / "episodes.csv"
    assert _evaluate(seeds / "seed_0", "--episodes", 9, "--fps", 50, "--csv", path) == 0
    title, header, figures, _, median, *bins = capsys.readouterr().out.splitlines()
    assert title == f"{seeds / 'seed_0'}: best policy, 9 episodes each, deterministic, fps 50.0"
    assert header.split("  ")[-1] == "responses"
    rows = _table(path)
    assert [row["episode"] for row in rows] == [str(episode) for episode in range(9)]
    assert {row["fps"] for row in rows} == {"50.0"}
    # An episode of 40 steps has 41 responses where these lag the action.
    assert all((row["responses"] == "41") == (row["survived"] == "1") for row in rows)
    returns = np.float64([row["return"] for row in rows])
    assert f"{returns.mean():.1f} ± {returns.std():5.1f} " in figures
    assert median == f"median return {np.median(returns):.1f}; returns:"
    assert sum(int(line.split()[3]) for line in bins) == 9


def test_during_a_training_what_is_there_is_played(seeds, tmp_path, capsys, fake):
    run = tmp_path / "run"
    shutil.copytree(seeds, run)
    (run / "seed_1" / "models" / "best").unlink()
    assert _evaluate(run, "--policy", "final", "--episodes", 2) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"{run}: no final policy yet; the best one plays",
        f"{run / 'seed_1'}: no best policy yet; left out",
    ]
    assert captured.out.startswith(f"{run}: best policy of 2 seeds, 2 episodes each")


@pytest.mark.slow
def test_drawn_actions_repeat_with_the_key_and_differ_from_the_mean():
    # The game, episodes and networks of the test before, which are compiled.
    trainer = make_trainer(GAME, TRAIN)
    env = randomized_env(dataclasses.replace(GAME, fps=50), DomainRandomization())
    rest = _random_policy(0), env.default_params, jax.random.key(0), 9
    first, again = (evaluation.evaluate(env, trainer.sampled_policy, *rest, sampled=True) for _ in range(2))
    mean = evaluation.evaluate(env, trainer.policy, *rest, sampled=False, draw_params=None)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert (np.asarray(first.returns) != np.asarray(mean.returns)).any()


def test_a_grid_of_two_gives_a_line_each_and_two_tables(seeds, tmp_path, capsys, fake):
    path = tmp_path / "episodes.csv"
    grid = ("--grid", "frames_per_step=1,7", "response-frame=0,full")
    assert _evaluate(seeds / "seed_1", "--episodes", 4, "--sampled", *grid, "--csv", path) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{seeds / 'seed_1'}: best policy, 4 episodes each, sampled",
        "frames_per_step  response_frame    return ± std       IQM [95% interval]"
        "  survival [95% interval]  responses",
        "              1               0     1.5 ±   1.1     1.5 [   0.0,    3.0]"
        "   50.0% [ 15.0%,  85.0%]       11.5",
        "              1               1     1.5 ±   1.1     1.5 [   0.0,    3.0]"
        "   50.0% [ 15.0%,  85.0%]       11.5",
        "              7               0    10.5 ±   7.8    10.5 [   0.0,   21.0]"
        "   50.0% [ 15.0%,  85.0%]       11.5",
        "              7               7    10.5 ±   7.8    10.5 [   0.0,   21.0]"
        "   50.0% [ 15.0%,  85.0%]       11.5",
        "",
        "IQM, frames_per_step down, response_frame across",
        "      0  full",
        "1   1.5   1.5",
        "7  10.5  10.5",
        "",
        "survival, frames_per_step down, response_frame across",
        "       0   full",
        "1  50.0%  50.0%",
        "7  50.0%  50.0%",
    ]
    rows = _table(path)
    assert len(rows) == 4 * 4
    assert rows[-1] == {
        "frames_per_step": "7",
        "response_frame": "7",
        "episode": "3",
        "return": "21.0",
        "responses": "13",
        "survived": "0",
    }


@pytest.mark.slow
def test_robustness_plays_other_numbers_in_every_episode(seeds, tmp_path, capsys, monkeypatch):
    # Each is compiled for itself; the last one varies what all others vary.
    some = {name: conditions.ROBUSTNESS[name] for name in ("nothing", "all of these")}
    monkeypatch.setattr(conditions, "ROBUSTNESS", some)
    path = tmp_path / "episodes.csv"
    assert _evaluate(seeds / "seed_1", "--episodes", 9, "--fps", 50, "--robustness", "--csv", path) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    varied = list(conditions.ROBUSTNESS)
    width = max(map(len, varied))
    assert [line[:width].strip() for line in lines] == varied
    assert [row["varied"] for row in _table(path)] == [name for name in varied for _ in range(9)]
    assert len({line[width:] for line in lines}) > 1


def test_all_seeds_of_a_run_are_played(seeds, tmp_path, capsys, monkeypatch):
    returns = iter([10.0, 20.0, 60.0])

    def play(env, policy, weights, params, key, episodes, sampled, draw_params):
        return Episodes(np.full(episodes, next(returns)), np.full(episodes, 5), np.arange(episodes) == 0)

    monkeypatch.setattr(evaluation, "evaluate", play)
    path = tmp_path / "episodes.csv"
    assert _evaluate(seeds, "--episodes", 2, "--csv", path) == 0
    title, _, *figures, mean = capsys.readouterr().out.splitlines()
    assert title == f"{seeds}: best policy of 3 seeds, 2 episodes each, deterministic"
    assert [line.split()[:2] for line in figures] == [
        ["seed_0", "10.0"],
        ["seed_1", "20.0"],
        ["seed_2", "60.0"],
    ]
    # One resample in 27 holds one seed only.
    interval = "30.0 [10.0, 60.0]"
    assert mean == f"mean of 3 seeds: return {interval}  IQM {interval}  survival 50.0% [50.0%, 50.0%]"
    assert [row["folder"] for row in _table(path)] == [f"seed_{seed}" for seed in (0, 0, 1, 1, 2, 2)]


def test_seeds_are_played_in_the_order_of_their_numbers(seeds, tmp_path, capsys, fake):
    for seed in (0, 2, 10):
        shutil.copytree(seeds / "seed_0", tmp_path / f"seed_{seed}")
    assert _evaluate(tmp_path, "--episodes", 2) == 0
    lines = capsys.readouterr().out.splitlines()[2:-1]
    assert [line.split()[0] for line in lines] == ["seed_0", "seed_2", "seed_10"]


def test_seeds_of_different_trainings_are_refused(seeds, tmp_path, capsys):
    shutil.copytree(seeds / "seed_0", tmp_path / "seed_0")
    other = Run.create(tmp_path, "other", GAME, dataclasses.replace(TRAIN, gamma=0.5))
    shutil.move(other.folder, tmp_path / "seed_1")
    _refused([tmp_path], "seed_1: differs from", capsys)


def test_ctrl_c_keeps_the_settings_that_were_played(seeds, tmp_path, capsys, monkeypatch):
    def play(env, policy, weights, params, key, episodes, sampled, draw_params):
        if env.config.frames_per_step == 7:
            raise KeyboardInterrupt
        return Episodes(np.zeros(episodes), np.zeros(episodes), np.zeros(episodes, bool))

    monkeypatch.setattr(evaluation, "evaluate", play)
    path = tmp_path / "episodes.csv"
    arguments = (seeds / "seed_0", "--episodes", 2, "--csv", path, "--grid")
    assert _evaluate(*arguments, "frames_per_step=1,7,2") == 130
    assert [row["frames_per_step"] for row in _table(path)] == ["1", "1"]
    before = path.read_text()
    assert _evaluate(*arguments, "frames_per_step=7") == 130
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
    assert capsys.readouterr().err == "interrupted\n" * 2


def test_a_damaged_policy_is_refused_and_the_csv_file_stays(seeds, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(seeds / "seed_0", run)
    (run / "models" / "best").write_bytes(b"\x81")
    path = tmp_path / "episodes.csv"
    path.write_text("before")
    assert _evaluate(run, "--csv", path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{run / 'models' / 'best'}: damaged")
    assert path.read_text() == "before"
    assert {entry.name for entry in tmp_path.iterdir()} == {"run", "episodes.csv"}


def test_summary_of_known_episodes():
    summary = Episodes(
        np.float32([8, 0, 1, 3]), np.int32([4, 2, 2, 4]), np.array([1, 0, 0, 1], bool)
    ).summary()
    expected = {"mean": 3, "median": 2, "iqm": 2, "std": 9.5**0.5, "survival": 0.5, "length": 3}
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    for name in ("iqm", "survival"):
        assert summary[f"{name}_low"] < summary[name] < summary[f"{name}_high"]


@pytest.mark.parametrize(
    ("arguments", "status"), [(("--help",), 0), (("--gamma", "2"), 2), (("--no-such", "1"), 2)]
)
def test_help_and_refusals_answer_without_jax(arguments, status, tmp_path):
    # The command is the module run as a program; what it has imported is known only inside.
    code = """
import runpy, sys
try:
    runpy.run_module("jaxdodge.evaluate", run_name="__main__", alter_sys=True)
finally:
    assert not {"jax", "flax", "orbax", "matplotlib"} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (status > 0)
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ([], "run: missing; expected Folder of the run, results/NAME/TIME"),
    (["RUN", "RUN"], "unexpected argument; expected options as --name value, and one run"),
    (["RUN", "--timeout", "x"], "timeout: invalid value 'x'; expected a number"),
    (["absent"], "absent: not a run folder"),
    (["RUN", "--episodes", "0"], "episodes: invalid value 0; expected a whole number, 1 <= value"),
    (["RUN", "--policy", "worst"], "policy: invalid value 'worst'; expected best, final"),
    (["RUN", "--fps", "1"], "fps: invalid value 1"),
    (
        ["RUN", "--action-space-type", "full_6d"],
        "action_space_type: invalid value 'full_6d'; expected 'basic_3d'",
    ),
    (["RUN", "--image-obs-width", "64"], "image_obs_width: invalid value 64; expected 256"),
    (["RUN", "--gamma", "0.9"], "--gamma: no such option"),
    (["RUN", "--grid", "fps"], "grid: invalid value 'fps'; expected NAME=VALUE,VALUE ..."),
    (
        ["RUN", "--grid", "fps=50", "fps=60"],
        "grid: invalid value 'fps=60'; expected NAME=VALUE,VALUE ..., each",
    ),
    (["RUN", "--grid", "fps=[1"], "grid: invalid value 'fps=[1'; its values are not valid YAML"),
    (["RUN", "--grid", "speed=1,2"], "speed: no such field of the game"),
    (["RUN", "--grid", "frames_per_step=2,0"], "frames_per_step: invalid value 0"),
    (["RUN", "--csv", "."], ".: not a regular file"),
    (["RUN", "--csv", "/dev/null"], "/dev/null: not a regular file"),
    (["RUN", "--csv", "no/such/file.csv"], "no/such/file.csv: No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_refusals_are_one_line(arguments, text, seeds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _refused([seeds / "seed_0" if argument == "RUN" else argument for argument in arguments], text, capsys)
    assert list(tmp_path.iterdir()) == []


def _refused(arguments, text, capsys):
    try:
        status = _evaluate(*arguments)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert text in captured.err
    assert "Evaluate" not in captured.err
    assert len(captured.err.splitlines()) == 1
