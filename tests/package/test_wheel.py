"""What a wheel holds, and that every command works from one, in any folder."""

import os
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from installation import ROOT, SECONDS, environment
from tiny_runs import TINY

import jaxdodge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(checkout, clean, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, checkout]
    subprocess.run(command, check=True, env=clean, timeout=SECONDS)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, clean, tmp_path_factory):
    """Run a command of the installed package, in a folder that has nothing to do with it."""
    folder = environment(tmp_path_factory.mktemp("installed") / "venv")
    subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", wheel], check=True, env=clean, timeout=SECONDS
    )
    work = tmp_path_factory.mktemp("elsewhere")
    (work / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def run(*command, status: int = 0) -> str:
        name, *arguments = map(str, command)
        line = [folder / "bin" / name, *arguments]
        done = subprocess.run(line, cwd=work, env=clean, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    run.folder, run.work = folder, work
    return run


def test_a_wheel_holds_the_package_with_presets_and_recordings_and_nothing_else(wheel):
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {
        f"{path.relative_to(ROOT)}"
        for path in (ROOT / "jaxdodge").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    configs = {f"jaxdodge/data/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    recordings = {
        f"jaxdodge/data/recordings/{path.name}" for path in (ROOT / "parity" / "recordings").iterdir()
    }
    assert "jaxdodge/py.typed" in package
    assert len(recordings) >= 38
    assert found == package | configs | recordings
    assert wheel.name == f"jaxdodge-{jaxdodge.__version__}-py3-none-any.whl"


def test_presets_and_recordings_are_found_in_the_installed_package(installed):
    script = (
        "from jaxdodge import resources; print(resources.preset('angle60')); print(resources.recordings())"
    )
    for line in installed("python", "-c", script).splitlines():
        assert Path(line).is_relative_to(installed.folder)
        assert Path(line).exists()


def test_the_command_and_the_module_list_the_commands(installed):
    assert installed("jaxdodge") == installed("python", "-m", "jaxdodge")
    assert installed("jaxdodge", "--version") == f"{jaxdodge.__version__}\n"


def test_training_from_a_preset_and_evaluation(installed):
    small = [part for name in ("num_envs", "batch_size", "buffer_size") for part in (f"--{name}", TINY[name])]
    short = [
        "--total-timesteps",
        2048,
        "--max-episode-steps",
        80,
        "--n-eval-episodes",
        8,
        "--learning-starts",
        64,
        *small,
    ]
    output = installed("jaxdodge", "train", "--config", "level1", "--net-arch", 8, *short)
    (run,) = (Path(line.removeprefix("run: ")) for line in output.splitlines() if line.startswith("run: "))
    assert run.parent == Path("results/level1")
    assert "survival" in installed("jaxdodge", "evaluate", run, "--episodes", 4)


def test_an_unknown_preset_is_an_error(installed):
    installed("jaxdodge", "train", "--config", "angle61", status=2)


def test_checks_of_a_recording_and_a_session(installed):
    folder = installed(
        "python", "-c", "from jaxdodge import resources; print(resources.recordings())"
    ).strip()
    assert "1 of 1 equal" in installed("jaxdodge", "parity", "check", Path(folder, "level1_still.npz"))
    assert "frames per step" in installed("jaxdodge", "parity", "timing", Path(folder, "api_grpc60_fast.npz"))


def test_a_study(installed):
    base = {name: value for name, value in TINY.items() if name != "total_timesteps"}
    study = {"question": "Does it run?", "base": base, "factors": {"gamma": [0.9]}, "seeds": 1}
    study |= {"budget": {"updates": 64}, "evaluate": {"episodes": 4}}
    (installed.work / "study.yaml").write_text(yaml.safe_dump(study))
    assert "report: " in installed("jaxdodge", "ablate", "study.yaml")


def test_a_server(installed, clean):
    command = [installed.folder / "bin" / "jaxdodge", "serve", "--http", "--port", "0"]
    with subprocess.Popen(
        command, cwd=installed.work, env=clean, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            while "http://127.0.0.1" not in (line := server.stdout.readline()):
                assert line
            os.kill(server.pid, signal.SIGINT)
            assert server.wait(SECONDS) == 130
        finally:
            server.kill()
