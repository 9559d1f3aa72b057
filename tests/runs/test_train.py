"""The command `train`: from end to end, several seeds, divergence, and every refusal."""

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
import yaml
from flax import serialization
from tiny_runs import TINY
from tiny_runs import lines as _lines
from tiny_runs import only_run as _only_run
from tiny_runs import summary as _summary

from jaxdodge import evaluate, train
from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError
from jaxdodge.runs import loop as training
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run, split
from jaxdodge.runs.loop import DivergedError, Training
from jaxdodge.runs.start import New, read_start

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
    assert re.fullmatch(r"[\d.]+ updates/s, about \d+ min to go", projected)
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


REFUSED = [
    (["--no-such-option", "1"], "--no-such-option: no such option"),
    (["--lerning-rate", "1"], "did you mean --learning-rate?"),
    (["7"], "7: unexpected argument"),
    (["--gamma"], "Missing value for argument '--gamma'"),
    (["--gamma", "1.5"], "gamma: invalid value 1.5; expected a number, 0 <= value <= 1"),
    (["--gamma", "much"], "gamma: invalid value 'much'; expected a number"),
    (["--learning-rate", "nan"], "learning_rate: invalid value 'nan'"),
    (["--num-envs", "0"], "num_envs: invalid value 0; expected a whole number, 1 <= value"),
    (["--seed", "1.5"], "seed: invalid value 1.5; expected a whole number"),
    (
        ["--seed", "4294967295", "--seeds", "2"],
        "seeds: invalid value 2; expected a whole number, 1 <= value <= 1",
    ),
    (
        ["--learning-starts", "9000000"],
        "total_timesteps: invalid value 6000000; expected at least 9000960, when the first update comes",
    ),
    (["--train-freq", "6000"], "total_timesteps: invalid value 6000000; expected at least 6144000"),
    (["--net-arch", "64", "0"], "net_arch: invalid value [64, 0]; expected a list of whole numbers"),
    (["--buffer-size", "10"], "buffer_size: invalid value 10; expected at least 4096"),
    *[
        (
            [f"--{name}", "2000000000000"],
            f"{name.replace('-', '_')}: invalid value 2000000000000; expected a whole number",
        )
        for name in ("learning-starts", "buffer-size", "eval-freq", "save-freq")
    ],
    (
        ["--normalize-observations", "true", "--observation-mode", "topdown"],
        "normalize_observations: invalid value True; expected False",
    ),
    (["--ent-coef", "auto_0"], "ent_coef: invalid value 'auto_0'; expected auto, auto_NUMBER"),
    (["--level", "3"], "level: invalid value 3; expected a whole number, 1 <= value <= 2"),
    (["--image-grayscale", "maybe"], "image_grayscale: invalid value 'maybe'; expected true or false"),
    (["--action-space-type", "2d"], "action_space_type: invalid value '2d'; expected discrete, basic_3d"),
    (["--action-space-type", "discrete"], "(SAC needs continuous actions)"),
    (["--critic-observation", "state"], "(state is for observation_mode topdown)"),
    (["--response-frame", "8"], "response_frame: invalid value 8"),
    (["--config", "absent.yaml"], "absent.yaml: cannot be read"),
    (["--config", "angle6"], "angle6: no such file or preset; did you mean angle60? (presets: angle180, "),
    (["--config", "original/sac"], "original/sac: cannot be read"),
    (["--config", "list.yaml"], "list.yaml: must be a YAML mapping"),
    (["--config", "broken.yaml"], "broken.yaml: not valid YAML"),
    (["--config", "unknown.yaml"], "gama: no such field of the game or the training; did you mean gamma?"),
    (["--config", "unsettable.yaml"], "player_start_height: not settable"),
    (["--config", "ppo.yaml"], "algorithm: invalid value 'PPO'; expected SAC"),
    (["--config", "wrong.yaml"], "gamma: invalid value 2"),
    (["--results", "list.yaml"], "list.yaml/default: cannot be written"),
    (["--results", "/proc/no/such"], "/proc/no/such/default"),
    (["--resume", "absent"], "absent: not a run folder (no config.yaml in it)"),
    (["--resume", "."], ".: not a run folder (no config.yaml in it)"),
    (["--resume", "absent", "--gamma", "0.9"], "resume: a run goes on with its own configuration"),
    (["--resume", "absent", "--config", "fine.yaml"], "resume: a run goes on with its own configuration"),
    (["--resume", "seeds/seed_0"], "seeds/seed_0: one seed of a run; expected seeds"),
]


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    """The files that REFUSED is about."""
    monkeypatch.chdir(tmp_path)
    contents = {
        "list": "- 1\n- 2\n",
        "broken": "a: [1\n",
        "unknown": "gama: 0.9\n",
        "unsettable": "player_start_height: 2\n",
        "ppo": "algorithm: PPO\n",
        "wrong": "algorithm: SAC\nverbose: 1\ngamma: 2\n",
        "fine": "gamma: 0.9\n",
        "seeds/config": "seeds: 2\n",
        "seeds/seed_0/config": "seed: 0\n",
    }
    Path("seeds", "seed_0").mkdir(parents=True)
    for name, content in contents.items():
        Path(f"{name}.yaml").write_text(content)
    return sorted(map(str, tmp_path.rglob("*")))


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_train_refuses_in_one_line(arguments, text, files, capsys):
    try:
        status: object = guarded(train.train, arguments)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert text in captured.err
    assert len(captured.err.splitlines()) == 1
    assert sorted(map(str, Path.cwd().rglob("*"))) == files


def test_help_and_refusals_answer_without_jax(files):
    code = """
import sys
from jaxdodge import evaluate, train
from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError
for arguments in [["--help"], *eval(sys.argv[1])]:
    try:
        guarded(train.train, arguments)
    except SystemExit:
        pass
assert not {"jax", "flax", "orbax", "matplotlib"} & sys.modules.keys()
"""
    arguments = repr([case[0] for case in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", code, arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "--critic-observation" in done.stdout
    assert len(done.stderr.splitlines()) == len(REFUSED)


def test_a_measured_timing_wins_over_the_file_and_loses_to_the_command_line(command, monkeypatch):
    seen = []

    def stop(game, config, devices):
        seen.append((game, config))
        raise ConfigError("seen")

    monkeypatch.setattr(training, "Training", stop)
    Path("timing.yaml").write_text("frames_per_step: 2\nresponse_frame: 0\nfps: 30\nframe_time_jitter: 0.1\n")
    assert command("--timing", "timing.yaml", "--fps", 40) == 2
    (game, config) = seen[0]
    assert (game.frames_per_step, game.response_frame, game.fps) == (2, 0, 40)
    assert (config.frame_time_jitter, config.frames_per_step_jitter) == (0.1, 0)
    # What could not be measured is not taken from another timing.
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY | {"frames_per_step": 7, "response_frame": 0}))
    Path("timing.yaml").write_text("frames_per_step: 2\n")
    assert command("--timing", "timing.yaml") == 2
    (game, config) = seen[1]
    assert (game.frames_per_step, game.response_frame, game.fps) == (2, 2, 10)
    assert config.frame_time_jitter == 0


@pytest.mark.parametrize("name", ["angle60", "original/sac_level2_vector_angle60"])
def test_a_preset_is_found_by_its_name_from_any_folder(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start = read_start(Path("results"), name, None, None, {"seed": 3})
    assert isinstance(start, New)
    assert (start.name, start.game.spawn_angle_degrees, start.config.seed) == (Path(name).name, 60, 3)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("fps: 60", "timing.yaml: frames_per_step is missing; expected what parity timing --out wrote"),
        ("frames_per_step: 0", "frames_per_step: invalid value 0"),
        ("frames_per_step: 2\nlevel: 1", "level: no such field of a timing"),
    ],
)
def test_a_timing_that_is_none_is_refused_in_a_line(command, capsys, text, line):
    Path("timing.yaml").write_text(text)
    assert command("--timing", "timing.yaml") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(line)
