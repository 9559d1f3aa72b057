"""The command `train`: from end to end, several seeds, and divergence."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from tiny_runs import TINY
from tiny_runs import lines as _lines
from tiny_runs import only_run as _only_run
from tiny_runs import summary as _summary

from jaxdodge import evaluate, train
from jaxdodge.cli import guarded
from jaxdodge.runs import loop as training
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run, split
from jaxdodge.runs.loop import DivergedError, Training

ORIGINAL = Path(__file__).parents[2] / "configs" / "original" / "sac_level1_vector.yaml"


def test_a_file_of_the_original_project_trains_and_leaves_everything_on_disk(tmp_path):
    file = tmp_path / "original.yaml"
    file.write_text(ORIGINAL.read_text() + "policy: MlpPolicy\nverbose: 1\nn_envs: 2\n")
    tiny = {"total_timesteps": 30_000, "eval_freq": 25_600, "n_eval_episodes": 4, "max_episode_steps": 20}
    tiny |= {"num_envs": 2560, "buffer_size": 25_600, "batch_size": 16, "net_arch": 8, "fps": 10, "seed": 2}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items() if name != "net_arch"]
    done = subprocess.run(
        [sys.executable, "-m", "jaxdodge.train", "--config", str(file), *options, "--net_arch", "8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = (tmp_path / "results" / "original").iterdir()
    assert re.fullmatch(r"\d{8}_\d{6}", run.name)

    # Not on a terminal: these lines and nothing else.
    ignored, about, compiling, folder, memory, before, first, projected, last, *end = done.stdout.splitlines()
    assert ignored == "ignored (no effect here): policy, verbose"
    assert about == "original: level 1, an action every 7 frames, 65 numbers; 30,000 steps"
    assert compiling == "compiling"
    assert folder == f"run: {run.relative_to(tmp_path)}"
    assert re.match(r"memory: [\d,]+ MB of [\d,]+ MB available \(replay [\d,]+ MB, ", memory)
    assert all("steps/s" in line and "survival" in line for line in (first, last))
    assert " 0 steps  before the first update " in before
    assert re.fullmatch(r"[\d.]+ updates/s, about [\d.]+ s to go", projected)
    assert "\x1b" not in done.stdout
    folder = run.relative_to(tmp_path)
    assert re.fullmatch(rf"finished after \d+ s: {folder}", end[0])
    assert end[1:] == [
        f"learning curve: {folder}/plots/learning_curves.png",
        f"next: jaxdodge watch {folder} --show, or jaxdodge evaluate {folder}",
    ]

    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if "checkpoints/" not in f"{path}"}
    assert files - {name for name in files if "tfevents" in name} == {
        *("config.yaml", "lock", "summary.json", "models", "models/best", "models/final"),
        *("models/checkpoints", "logs", "logs/metrics.jsonl", "plots", "plots/learning_curves.png"),
    }
    assert any("tfevents" in name for name in files)
    game, config = Run.open(run).config()
    assert (config.num_envs, config.seed, config.gamma, config.net_arch) == (2560, 2, 0.99, (8,))
    assert (game.level, game.frames_per_step, game.response_frame) == (1, 7, 0)
    assert [line["timesteps"] for line in _lines(run)] == [0, 25_600, 51_200]
    summary = _summary(run)
    assert summary.keys() == {
        *("hardware", "wall_seconds", "timesteps", "stopped", "updates"),
        *("best_evaluation", "final_evaluation"),
    }
    assert {"cpu", "device", "python", "jax", "jaxdodge"} <= summary["hardware"].keys()
    # Updates from the fourth of 20 steps on; before, no transition was whole.
    assert (summary["timesteps"], summary["updates"], summary["stopped"]) == (51_200, 17, None)
    assert summary["final_evaluation"]["timesteps"] == 51_200
    for figures in (summary["best_evaluation"], summary["final_evaluation"]):
        assert figures["survival_low"] <= figures["survival"] <= figures["survival_high"]
        assert figures["iqm_low"] <= figures["iqm"] <= figures["iqm_high"]


@pytest.mark.nightly
@pytest.mark.slow
def test_seeds_have_folders_of_their_own(command, capsys):
    assert command("--seeds", 2, "--total-timesteps", 1024, "--eval-freq", 1024) == 0
    printed = capsys.readouterr()
    assert (printed.err, printed.out.count("seeds: ")) == ("", 3)
    run = _only_run()
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "lock", "summary.json", "models", "plots", "seed_0", "seed_1")
    }
    parts = [run / f"seed_{index}" for index in range(2)]
    assert [Run.open(part).config()[1].seed for part in parts] == [0, 1]
    assert len({(part / "models" / "final").read_bytes() for part in parts}) == 2
    finals = [_summary(part)["final_evaluation"]["mean"] for part in parts]
    over_seeds = _summary(run)["final_evaluation"]
    assert over_seeds["means"] == finals
    assert over_seeds["mean"] == pytest.approx(np.mean(finals))
    assert min(finals) <= over_seeds["mean_low"] < over_seeds["mean"] < over_seeds["mean_high"] <= max(finals)
    assert (run / "plots" / "learning_curves.png").is_file()
    assert all((part / "plots" / "learning_curves.png").is_file() for part in parts)


@pytest.mark.slow
def test_seeds_train_in_one_program_as_they_would_alone(command, capsys):
    assert command("--seeds", 3) == 0
    assert capsys.readouterr().out.count("seeds: ") == 9
    parts = [_only_run() / f"seed_{index}" for index in range(3)]
    assert guarded(evaluate.evaluate, [f"{_only_run()}", "--episodes", "4"]) == 0
    assert "mean of 3 seeds: " in capsys.readouterr().out
    assert command("--seed", 1, "--results", "alone") == 0
    (alone,) = Path("alone", "tiny").iterdir()
    policies = [
        serialization.msgpack_restore((one / "models" / "final").read_bytes()) for one in (parts[1], alone)
    ]
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4), *policies)
    one, other = (_lines(each)[1] for each in (parts[1], alone))
    assert one["evaluation/mean"] == pytest.approx(other["evaluation/mean"], rel=0.05)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(command, capsys):
    # Of whole episodes many end in a collision, and none before the first checkpoint.
    assert command("--collision-penalty", "-1e30", "--shortest-episode", 1, "--save-freq", 512) == 1
    run = _only_run()
    (line,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        r"(\w+) is not finite from environment step (\d+) on; last good checkpoint: (.*)", line
    )
    assert found
    assert found[1] == "critics_loss"
    assert int(found[2]) % 64 == 0
    summary = _summary(run)
    assert (summary["stopped"], summary["timesteps"]) == (line, (int(found[2]) - 64) // 512 * 512)
    assert not Run.open(run).finished()
    assert Run.newest(Path("results"), "tiny", *Run.open(run).config()) is None
    good = Checkpoints(run / "models" / "checkpoints").steps()
    assert found[3] == f"{run}/models/checkpoints/{good[-1]:012d}"
    again = Training(*Run.open(run).config())
    for step in good:
        again.resume(Run.open(run), step)
        assert all(
            np.isfinite(leaf).all()
            for leaf in jax.tree.leaves((again.state, again.best_policies))
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        )


@pytest.mark.slow
def test_a_policy_that_is_not_finite_stops_the_run_though_no_loss_tells(command, tmp_path):
    game, config = split({**train.DEFAULTS, **TINY})
    run = Run.create(tmp_path, "name", game, config)
    diverged = Training(game, config)
    compilation = diverged.seconds
    diverged.start()
    learner = diverged.state.learner
    learner = learner.replace(ema_policy=jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), learner.policy))
    diverged.state = diverged.state.replace(learner=learner)
    expected = "ema_policy is not finite from environment step 512 on; last good checkpoint: none was saved"
    with pytest.raises(DivergedError, match=expected):
        diverged.learn(run, lambda: None)
    assert diverged.checkpoints.steps() == []
    assert not (run.folder / "models" / "final").exists()
    summary = _summary(run.folder)
    assert summary["stopped"] == expected
    # That is most of the time of such a run.
    assert summary["wall_seconds"] > compilation


@pytest.mark.slow
def test_a_first_evaluation_that_is_not_a_number_does_not_stay_the_best(command, monkeypatch):
    evaluations = []

    def evaluate(*arguments):
        episodes = original(*arguments)
        evaluations.append(arguments)
        return episodes.replace(returns=episodes.returns * jnp.nan) if len(evaluations) == 1 else episodes

    original = training.evaluate
    monkeypatch.setattr(training, "evaluate", evaluate)
    assert command("--total-timesteps", 1024) == 0
    assert len(evaluations) == 3
    assert _summary(_only_run())["best_evaluation"]["timesteps"] > 0


def test_what_cannot_fit_is_refused_before_anything_is_compiled_or_written(command, monkeypatch, capsys):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    images = "--observation-mode", "topdown"
    assert command("--buffer-size", 1_000_000_000, *images) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"buffer_size: invalid value 1000000000; memory: [\d,]+ MB of [\d,]+ MB available \(.*\); "
        r"buffer_size \d+ would fit",
        line,
    )
    assert not Path("results").exists()


def test_ctrl_c_is_heard_while_an_epoch_runs(command, monkeypatch, capsys):
    """Not only after it: on images an epoch takes seconds."""
    run_epoch, heard = training.Training._run_epoch, []

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            if "Ctrl-C: stopping after this epoch; again to stop now" in capsys.readouterr().err:
                heard.append(True)
                break
            time.sleep(0.01)
        return run_epoch(self)

    monkeypatch.setattr(training.Training, "_run_epoch", interrupted)
    assert command() == 130
    assert heard == [True]
