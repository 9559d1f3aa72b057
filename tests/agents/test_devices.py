"""Runs on several devices, and of several processes, are those on one but for the order of sums."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
import yaml

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.cluster import Cluster

# Seldom enough updates that what they add in another order stays small.
TINY = {
    "num_envs": 64,
    "net_arch": [8],
    "buffer_size": 51_200,
    "batch_size": 16,
    "learning_starts": 6400,
    "train_freq": 100,
    "gradient_steps": 2,
    "total_timesteps": 51_200,
    "eval_freq": 51_200,
    "save_freq": 25_600,
    "n_eval_episodes": 8,
    "max_episode_steps": 80,
}
# The environments' part of a state is equal to the bit before the first update,
# which comes after this many rows.
ROWS = 6400 // 64


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Start the command in a folder; returns the process."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    environment = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    environment["XDG_CACHE_HOME"] = f"{folder / 'caches'}"

    def start(results: str, *arguments: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "jaxdodge.train", "--results", results, *map(str, arguments)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    start.folder = folder
    return start


def ended(*processes: subprocess.Popen) -> list[tuple[str, str]]:
    """What each printed, and its errors."""
    try:
        return [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def own_lines(printed: str) -> list[str]:
    """Without those of the library that connects processes."""
    return [line for line in printed.splitlines() if not line.startswith("[Gloo]")]


def finished(*processes: subprocess.Popen) -> list[str]:
    """What each printed."""
    printed = ended(*processes)
    assert [process.returncode for process in processes] == [0] * len(processes), printed
    return [out for out, _ in printed]


@pytest.fixture(scope="module")
def trained(command):
    """The folder of a finished run, made when first asked for."""
    runs: dict[tuple, Path] = {}

    def run(*arguments: object) -> Path:
        if arguments not in runs:
            results = f"results{len(runs)}"
            finished(command(results, "--config", "tiny.yaml", *arguments))
            (runs[arguments],) = (command.folder / results / "tiny").iterdir()
        return runs[arguments]

    return run


def saved(run: Path, step: int) -> dict[str, np.ndarray]:
    folder = run / "models" / "checkpoints" / f"{step:012d}" / "arrays"
    with contextlib.closing(ocp.PyTreeCheckpointer()) as checkpointer:
        return checkpointer.restore(folder)


def assert_same_run(one: Path, other: Path, steps=(25_600, 51_200), seeds: int = 1) -> None:
    for step in steps:
        arrays, others = saved(one, step), saved(other, step)
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            if ".replay" in name:
                rows = (slice(None),) * (seeds > 1) + (slice(ROWS),)
                np.testing.assert_array_equal(array[rows], others[name][rows], err_msg=name)
            if ".learner" in name:
                np.testing.assert_allclose(array, others[name], rtol=1e-3, atol=1e-5, err_msg=name)
    first, second = (json.loads((run / "summary.json").read_text()) for run in (one, other))
    for figure in ("timesteps", "updates", "stopped"):
        assert first[figure] == second[figure]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(("devices", "seeds"), [(2, 2), (4, 1)])
def test_a_run_does_not_depend_on_the_number_of_devices(trained, devices, seeds):
    alone = trained("--seeds", seeds)
    assert_same_run(alone, trained("--seeds", seeds, "--devices", devices), seeds=seeds)


@pytest.mark.nightly
@pytest.mark.slow
def test_what_is_compiled_is_kept_for_the_next_run(trained, command):
    trained("--seeds", 1)
    assert [*command.folder.glob("caches/jaxdodge/*/jit__epoch-*-cache")]


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_another_number_of_devices(trained, command):
    run = trained("--seeds", 1, "--devices", 4)
    (printed,) = finished(command("on1", "--resume", checkpoint_of(run)))
    assert "resumed at 25,600 steps" in printed
    (branch,) = (command.folder / "on1" / "tiny").iterdir()
    assert_same_run(run, branch, steps=[51_200])


def checkpoint_of(run: Path) -> Path:
    return run / "models" / "checkpoints" / f"{25_600:012d}"


@pytest.fixture
def coordinator():
    """A free address, held until the end of the test, so that only process 0 gets it."""
    with socket.socket() as held:
        # Process 0 asks for the same, and can then listen beside this, which does not.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_train_as_one(trained, command, coordinator):
    shared = ("--devices", 2, "--processes", 2, "--coordinator", coordinator)
    tiny = ("--config", "tiny.yaml", *shared)
    both = [command("both", *tiny, "--process", number) for number in range(2)]
    first, second = finished(*both)
    assert "run: both/tiny/" in first
    assert own_lines(second) == []
    (run,) = (command.folder / "both" / "tiny").iterdir()
    assert_same_run(trained("--seeds", 1), run)

    resume = ("--resume", checkpoint_of(trained("--seeds", 1, "--devices", 4)), *shared)
    first, _ = finished(*[command("on2", *resume, "--process", number) for number in range(2)])
    assert "resumed at 25,600 steps" in first
    (branch,) = (command.folder / "on2" / "tiny").iterdir()
    assert_same_run(run, branch, steps=[51_200])

    endless = ("--total-timesteps", 10**9, "--eval-freq", 10**9, "--save-freq", 10**9)
    both = [command("endless", *tiny, *endless, "--process", number) for number in range(2)]
    assert any(line.startswith("run: ") for line in both[0].stdout)
    both[1].send_signal(signal.SIGTERM)
    ended(*both)
    assert [process.returncode for process in both] == [143, 143]
    (run,) = (command.folder / "endless" / "tiny").iterdir()
    (checkpoint,) = (run / "models" / "checkpoints").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["stopped"], summary["timesteps"]) == ("another process", int(checkpoint.name))


@pytest.mark.slow
def test_the_users_own_timeout_of_collectives_wins():
    mine = "--xla_cpu_collective_call_terminate_timeout_seconds=900"
    code = """
import os
import jax
from jaxdodge.runs.cluster import Cluster
Cluster(2).join()
print(len(jax.devices()), os.environ["XLA_FLAGS"])
"""
    environment = os.environ | {"XLA_FLAGS": mine}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    devices, *flags = done.stdout.split()
    assert devices == "2"
    assert "--xla_cpu_collective_call_terminate_timeout_seconds=600" in flags
    assert flags[-1] == mine


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (Cluster(devices=0), "devices: invalid value 0; expected at least 1"),
        (Cluster(devices=3), "devices: invalid value 3; expected a divisor of num_envs (64)"),
        (Cluster(devices=32), "devices: invalid value 32; expected a divisor of batch_size (16)"),
        (Cluster(4, processes=3), "processes: invalid value 3; expected a divisor of devices (4)"),
        (Cluster(2, processes=2), "coordinator: missing; expected HOST:PORT of process 0, the same for all"),
        (Cluster(process=1), "process: invalid value 1; expected 0 to 0"),
    ],
)
def test_what_cannot_be_split_is_invalid(cluster, message):
    with pytest.raises(ConfigError) as error:
        cluster.check(TrainConfig(num_envs=64, batch_size=16, buffer_size=51_200))
    assert str(error.value) == message


def test_the_command_says_so_in_a_line(command):
    process = command("none", "--config", "tiny.yaml", "--devices", 3)
    _, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (
        2,
        "devices: invalid value 3; expected a divisor of num_envs (64)\n",
    )
    assert not (command.folder / "none").exists()
