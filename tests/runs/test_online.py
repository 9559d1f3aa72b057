"""Training on servers: what is stored, faults, kills and resumes, with real processes."""

import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
import yaml
from trained_servers import FAULTS, PROXY, check_stored, inject, proxies

from jaxdodge import train
from jaxdodge.agents.replay import sample
from jaxdodge.bevy.transitions import Transition
from jaxdodge.cli import guarded
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import split
from jaxdodge.runs.online import OnlineTraining
from jaxdodge.runs.servers import Servers

SMALL_SERVER = Path(__file__).parents[1] / "small_server.py"
TINY = {
    "frames_per_step": 1,
    "fps": 10,
    "max_episode_steps": 20,
    "net_arch": [8],
    "batch_size": 16,
    "learning_starts": 64,
    "buffer_size": 4096,
    "n_eval_episodes": 4,
    "total_timesteps": 800,
    "eval_freq": 100,
    "save_freq": 100,
}


def tiny(**changes):
    return split({"level": 2, "action_space_type": "basic_3d", "num_envs": 3, **TINY, **changes})


def test_the_replay_samples_the_transitions_of_the_servers_and_no_others():
    """Also where the ring is overwritten, servers are away for long, and a run is resumed."""
    training = OnlineTraining(*tiny(buffer_size=96), Servers(urls=("http://a:1",)))
    training.start()
    generator, length = np.random.default_rng(0), 32
    training._rows, training._goes_on = np.zeros(3, np.int64), np.zeros(3, bool)
    features = jax.jit(training.trainer.observers.actor.features)
    observations = generator.uniform(-1, 1, (3, 65)).astype(np.float32)
    rows = {server: [] for server in range(3)}
    draw = partial(sample, count=256, frame_stack=1, n_step=1, gamma=0.5)
    take = jax.jit(lambda key, state: draw(key, state.replay, state.rows))
    for turn in range(60):
        fed = []
        for server in (0, 1, 2) if 10 < turn < 20 else (0, 1):
            before, following = observations[server].copy(), generator.uniform(-1, 1, 65).astype(np.float32)
            action = generator.uniform(-1, 1, 3).astype(np.float32)
            ends = generator.random(2) < 0.15
            fed.append(Transition(server, before, action, float(turn), following, *ends))
            rows[server].append(fed[-1])
            observations[server] = generator.uniform(-1, 1, 65) if ends.any() else following
        training._store(fed)
        if turn == 40:
            # As after a resume: new episodes, and the same rows.
            training._goes_on[:] = False
            observations = generator.uniform(-1, 1, (3, 65)).astype(np.float32)
        if turn % 10 == 9 or turn in (41, 42):
            drawn = jax.tree.map(np.asarray, take(jax.random.key(turn), training.state))
            stored = {each.action.tobytes(): each for column in rows.values() for each in column[-length:]}
            found = [stored[action.tobytes()] for action in drawn.action]
            for stack, name in ((drawn.stack, "observation"), (drawn.next_stack, "next_observation")):
                expected = features(np.array([getattr(each, name) for each in found]))
                np.testing.assert_allclose(stack.frames["actor"][:, 0], expected, rtol=1e-5)
            terminated = np.array([each.terminated for each in found])
            extra = (training.config.collision_penalty_factor - 1) * training.game.collision_penalty
            rewards = np.array([each.reward for each in found]) + extra * terminated
            np.testing.assert_array_equal(drawn.reward, rewards.astype(np.float32))
            np.testing.assert_array_equal(drawn.discount, 0.5 * ~terminated)
    assert training.timesteps == sum(map(len, rows.values()))


@pytest.mark.slow
def test_with_failing_servers_killed_and_resumed_every_stored_transition_is_theirs(tmp_path):
    """The servers fail every 40 steps; a killed training leaves none of them."""
    log, folder = tmp_path / "log.jsonl", tmp_path / "orders"
    folder.mkdir()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    command = f"{PROXY} {folder} 2 -- {sys.executable} {SMALL_SERVER} {{server_port}} --log {log}"
    first = ["--config", "tiny.yaml", "--results", "results", "--server-command", command]
    first += ["--num-servers", "3", "--think-seconds", "0.005", "--timeout", "1", "--max-restarts", "1000"]
    draw, arguments, killed = random.Random(0), first, False
    while True:
        with start(arguments, tmp_path) as training:
            waiting, steps = 40, lines(log)
            while training.poll() is None:
                time.sleep(0.02)
                if lines(log) - steps > waiting:
                    waiting += 40
                    with contextlib.suppress(OSError):
                        inject(draw.choice(FAULTS), folder, draw.choice(proxies(folder)))
                if not killed and steps_of(tmp_path) > 300:
                    killed = True
                    training.kill()
        psutil.wait_procs([process for process in psutil.process_iter() if of(process, folder)], timeout=5)
        assert not [process for process in psutil.process_iter() if of(process, folder)]
        (run,) = (tmp_path / "results" / "tiny").iterdir()
        if training.returncode != -signal.SIGKILL:
            break
        assert check_stored(run, log) == steps_of(tmp_path)
        arguments = ["--resume", f"{run}"]
    assert (killed, training.returncode) == (True, 0)
    assert check_stored(run, log) == 800
    printed = (tmp_path / "printed.txt").read_text()
    assert re.search(r"^server [012]: http.*; restarting it$", printed, re.MULTILINE)
    assert re.search(r"^server [012]: back after [\d.]+ s$", printed, re.MULTILINE)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["timesteps"], summary["stopped"]) == (800, None)
    logged = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert logged[-1]["timesteps"] == 800
    assert {"servers/episodes", "servers/mean", "evaluation/mean", "updates_per_second"} <= logged[-1].keys()

    # Another run begins with its networks and its transitions.
    arguments = [
        "--from",
        f"{run}",
        "--keep-replay",
        *first[2:],
        "--total-timesteps",
        "120",
        "--learning-starts",
        "60",
    ]
    with start(arguments, tmp_path) as training:
        assert training.wait() == 0
    newest = max((tmp_path / "results" / "tiny").iterdir())
    assert check_stored(newest, log, kept=800) == 120


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxdodge.train", *arguments]
    with (folder / "printed.txt").open("ab") as printed:
        return subprocess.Popen(command, cwd=folder, stdout=printed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--servers http://a:1 --server-command x", "servers: expected either --servers or --server-command"),
        ("--server-command x{port}", "num_servers: invalid value None; expected "),
        ("--servers foo", "servers: invalid value 'foo'; expected http://HOST:PORT, "),
        (
            "--servers http://a:1,http://a:1",
            "servers: invalid value 'http://a:1,http://a:1'; expected different URLs",
        ),
        ("--servers http://127.0.0.1:9", "servers: http://127.0.0.1:9"),
        ("--num-servers 4", "num_servers: expected with --servers or --server-command"),
        ("--servers http://a:1 --num-envs 8", "num_envs: invalid value 8; expected 1, the number of servers"),
        ("--servers http://a:1 --observation-mode topdown", "observation_mode: invalid value 'topdown'; "),
        ("--servers http://a:1 --seeds 2", "seeds: invalid value 2; expected 1 on servers"),
        ("--servers http://a:1 --devices 2", "devices: invalid value 2; expected 1 on servers"),
        ("--from nowhere", "nowhere: not a run folder"),
        ("--servers http://a:1 --from nowhere", "nowhere: not a run folder"),
        ("--servers http://a:1 --keep-replay", "keep_replay: expected with --from"),
    ],
)
def test_what_cannot_be_trained_on_servers_is_refused_in_one_line(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert guarded(train.train, arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert not Path("results").exists()


def lines(log: Path) -> int:
    return log.read_bytes().count(b'"kind": "step"') if log.exists() else 0


def steps_of(folder: Path) -> int:
    """Environment steps of the newest checkpoint."""
    runs = list((folder / "results" / "tiny").glob("*"))
    return max(Checkpoints(runs[0] / "models" / "checkpoints").steps(), default=0) if runs else 0


def of(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a server of the training with this folder of orders."""
    with contextlib.suppress(psutil.Error):
        return f"{folder}" in process.cmdline() or f"{folder.parent / 'log.jsonl'}" in process.cmdline()
    return False
