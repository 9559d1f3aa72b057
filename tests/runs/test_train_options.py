"""The command `train`: what its options may be, and every refusal."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_runs import TINY

from jaxdodge import train
from jaxdodge.cli import guarded
from jaxdodge.fields import ConfigError
from jaxdodge.runs import loop as training
from jaxdodge.runs.folder import Run
from jaxdodge.runs.start import New, Resume, read_start

REFUSED = [
    (["--no-such-option", "1"], "--no-such-option: no such option"),
    (["--lerning-rate", "1"], "did you mean --learning-rate?"),
    (["7"], "7: unexpected argument"),
    (["--gamma"], "gamma: missing; expected a value"),
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
    (["--resume", "."], ".: not a run folder (no config.yaml in it); expected one such as seeds"),
    (["--resume", "absent", "--gamma", "0.9"], "absent: not a run folder (no config.yaml in it)"),
    (["--resume", "seeds", "--gamma", "0.9"], "resume: a run goes on with its own configuration"),
    (["--resume", "seeds", "--config", "fine.yaml"], "resume: a run goes on with its own configuration"),
    (["--devices", "0"], "devices: invalid value 0; expected at least 1"),
    (["--devices", "many"], "devices: invalid value 'many'; expected a whole number"),
    (["--timeout", "long"], "timeout: invalid value 'long'; expected a number"),
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

    class Stop:
        def __init__(self, game, config, devices):
            seen.append((game, config))
            raise ConfigError("seen")

    monkeypatch.setattr(training, "Training", Stop)
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


def test_auto_says_when_it_begins_a_new_run(tmp_path, capsys):
    def begun(**given) -> str:
        assert isinstance(read_start(tmp_path, None, None, "auto", given), New)
        return capsys.readouterr().out

    new = f"resume: no unfinished run of this configuration in {tmp_path / 'default'}; a new one begins"
    assert begun() == f"{new}\n"
    start = read_start(tmp_path, None, None, None, {})
    run = Run.create(tmp_path, "default", start.game, start.config)
    assert begun(gamma=0.9) == f"{new} (the newest of another configuration: {run.folder})\n"
    found = read_start(tmp_path, None, None, "auto", {})
    assert isinstance(found, Resume)
    assert (found.run.folder, capsys.readouterr().out) == (run.folder, "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a text", "timing: invalid value 'timing.yaml'; expected what parity timing --out wrote"),
        ("a: [1", "timing: invalid value 'timing.yaml'; expected what parity timing --out wrote"),
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
