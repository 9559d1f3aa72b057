"""The commands `train` and `evaluate`: from end to end, and every refusal."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from jaxdodge import evaluate, train
from jaxdodge.agents.runs import Run
from jaxdodge.cli import guarded

TINY = {
    "num_envs": 8,
    "net_arch": [8],
    "buffer_size": 800,
    "batch_size": 16,
    "gradient_steps": 1,
    "learning_starts": 8,
    "n_eval_episodes": 4,
    "max_episode_steps": 20,
    "frames_per_step": 2,
}


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jaxdodge.{module}", *arguments]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a tiny run, and what the command printed."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"seed": 1, "gamma": 0.9}))
    arguments = ("--config", "tiny.yaml", "--seed", "2", "--total-timesteps", "600", "--eval_freq", "400")
    done = subprocess.run(
        _command("train", *arguments), cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "results" / "tiny").iterdir()
    return run, done.stdout


def test_a_run_leaves_everything_on_disk(finished):
    run, printed = finished
    assert re.fullmatch(r"\d{8}_\d{6}", run.name)
    for name in ("config.yaml", "models/best", "models/final", "plots/learning_curves.png", "summary.json"):
        assert (run / name).is_file(), name
    game, config = Run.open(run).config()
    assert (config.seed, config.gamma, config.net_arch) == (2, 0.9, (8,))
    assert (game.level, game.spawn_angle_degrees, game.action_space_type) == (2, 30.0, "basic_3d")
    assert (game.frames_per_step, game.response_frame, game.observe_previous_action) == (2, 0, True)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["timesteps"] == 600
    assert summary["updates"] == 74
    assert not summary["stopped_early"]
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [line["timesteps"] for line in lines] == [400, 600]
    # Not on a terminal: the folder and a line per evaluation, nothing else.
    assert len(printed.splitlines()) == 3
    assert "\x1b" not in printed


def test_evaluate_plays_a_run(finished, capsys):
    run, _ = finished
    assert guarded(evaluate.evaluate, [str(run), "--episodes", "5"]) == 0
    assert re.search(r"return +-?[\d.]+ ± +[\d.]+  survival +[\d.]+%", capsys.readouterr().out)


def test_evaluate_plays_other_games(finished, capsys):
    run, _ = finished
    grid = ("--grid", "frames_per_step=1", "response_frame=0,full")
    assert guarded(evaluate.evaluate, [str(run), "--episodes", "2", "--fps", "50", *grid]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split("  ")[-1] for line in lines] == [
        f"fps 50.0, frames_per_step {frames}, response_frame {response}"
        for frames, response in ((1, 0), (1, 1))
    ]


def test_ctrl_c_saves_and_ends(tmp_path):
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(yaml.safe_dump(TINY))
    process = subprocess.Popen(
        _command("train", "--config", str(tiny), "--total-timesteps", "100000000", "--eval-freq", "2000"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "\nCtrl-C: saving and stopping\n"
    (run,) = (tmp_path / "results" / "tiny").iterdir()
    assert json.loads((run / "summary.json").read_text())["stopped_early"]
    assert (run / "models" / "final").is_file()


@pytest.mark.parametrize("module", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("arguments", "status"), [(("--help",), 0), (("--gamma", "2"), 2), (("--no-such", "1"), 2)]
)
def test_help_and_refusals_answer_at_once(module, arguments, status, tmp_path):
    start = time.perf_counter()
    done = subprocess.run(_command(module, *arguments), cwd=tmp_path, capture_output=True, text=True)
    assert time.perf_counter() - start < 2
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (status > 0)
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    (["--no-such-option", "1"], "--no-such-option: no such option"),
    (["--lerning-rate", "1"], "did you mean --learning-rate?"),
    (["7"], "7: unexpected argument"),
    (["--gamma"], "Missing value for argument '--gamma'"),
    (["--gamma", "1.5"], "gamma: 1.5 is refused; accepted: a number, 0 <= value <= 1"),
    (["--gamma", "much"], "gamma: 'much' is refused; accepted: a number"),
    (["--learning-rate", "nan"], "learning_rate: nan is refused"),
    (["--num-envs", "0"], "num_envs: 0 is refused; accepted: a whole number, 1 <= value"),
    (["--seed", "1.5"], "seed: 1.5 is refused; accepted: a whole number"),
    (["--net-arch", "64", "0"], "net_arch: [64, 0] is refused; accepted: a list of whole numbers"),
    (["--buffer-size", "10"], "buffer_size: 10 is refused; accepted: at least num_envs (1024)"),
    (["--level", "3"], "level: 3 is refused; accepted: a whole number, 1 <= value <= 2"),
    (["--image-grayscale", "maybe"], "image_grayscale: 'maybe' is refused; accepted: true or false"),
    (["--action-space-type", "2d"], "action_space_type: '2d' is refused; accepted: discrete, basic_3d"),
    (["--action-space-type", "discrete"], "(SAC needs continuous actions)"),
    (["--observation-mode", "topdown"], "(agents see vectors only)"),
    (["--response-frame", "8"], "response_frame: 8 is refused"),
    (["--config", "absent.yaml"], "absent.yaml: cannot be read"),
    (["--config", "list.yaml"], "list.yaml: must be a YAML mapping"),
    (["--config", "broken.yaml"], "broken.yaml: not valid YAML"),
    (["--config", "unknown.yaml"], "gama: no such field of the game or the training; did you mean gamma?"),
    (["--config", "unsettable.yaml"], "player_start_height: not settable"),
    (["--results", "list.yaml"], "list.yaml"),
    (["--results", "/proc/no/such"], "/proc/no"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_train_refuses_in_one_line(arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- 1\n- 2\n")
    Path("broken.yaml").write_text("a: [1\n")
    Path("unknown.yaml").write_text("gama: 0.9\n")
    Path("unsettable.yaml").write_text("player_start_height: 2\n")
    _refused(train.train, arguments, text, capsys)
    assert not Path("results").exists()


EVALUATE_REFUSED = [
    ([], "run"),
    (["absent"], "absent: not a run folder"),
    (["RUN", "--episodes", "0"], "episodes: 0 is refused; accepted: a whole number, 1 <= value"),
    (["RUN", "--policy", "worst"], "policy: 'worst' is refused; accepted: best, final"),
    (["RUN", "--fps", "1"], "fps: 1 is refused"),
    (
        ["RUN", "--action-space-type", "full_6d"],
        "action_space_type: 'full_6d' is refused; accepted: 'basic_3d'",
    ),
    (["RUN", "--gamma", "0.9"], "--gamma: no such option"),
    (["RUN", "--grid", "fps"], "grid: 'fps' is refused; accepted: NAME=VALUE,VALUE ..."),
    (["RUN", "--grid", "speed=1,2"], "speed: no such field of the game"),
    (["RUN", "--grid", "frames_per_step=2,0"], "frames_per_step: 0 is refused"),
]


@pytest.mark.parametrize(
    ("arguments", "text"), EVALUATE_REFUSED, ids=[" ".join(case[0]) for case in EVALUATE_REFUSED]
)
def test_evaluate_refuses_in_one_line(arguments, text, finished, capsys):
    arguments = [str(finished[0]) if argument == "RUN" else argument for argument in arguments]
    _refused(evaluate.evaluate, arguments, text, capsys)


def _refused(command, arguments, text, capsys):
    try:
        status = guarded(command, arguments)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1
