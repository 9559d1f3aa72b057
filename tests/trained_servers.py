"""Trainings on servers that fail, and whether what they stored is what the servers answered."""

import os
import signal
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from fault_proxy import order
from server_log import read_log

from jaxdodge.agents.server_trainer import ServerTrainer
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run

PROXY = f"{sys.executable} {Path(__file__).parent / 'fault_proxy.py'} {{port}}"
FAULTS = ("SIGKILL", "SIGSTOP", "kill", "stop", "delay", "reset", "cut", "garbage", "wrong_shape")


def proxies(folder: Path) -> list[int]:
    """Process ids of the running proxies; each has a socket of that name in the folder."""
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    return [number for number in numbers if Path(f"/proc/{number}").is_dir()]


def inject(fault: str, folder: Path, process: int) -> None:
    """Let a server fail, or the answer to its next step. Raises OSError if it failed before."""
    if fault.startswith("SIG"):
        os.kill(process, signal.Signals[fault])
    else:
        order(folder, process, fault)


def check_stored(run: Path, log: Path, kept: int = 0) -> int:
    """Every transition in the newest checkpoint is one step in the servers' log, and none is there
    twice. Returns how many transitions the checkpoint counts, without those kept of another run.
    """
    game, config = Run.open(run).config()
    trainer = ServerTrainer(game, config)
    template = trainer.shapes, [trainer.trainer.policy_shapes()]
    timesteps, (state, _), _ = Checkpoints(run / "models" / "checkpoints").restore(template)
    replay, rows = jax.tree.map(np.asarray, state.replay), np.asarray(state.rows)
    answers, last = defaultdict(list), {}
    lines = read_log(log)
    for line in lines:
        game_of = line["process"], line["arena"]
        if line["kind"] == "step":
            # The same action can be sent often: a policy's may be all at their limits.
            answers[np.array(line["action"], np.float32).tobytes()].append((last[game_of], line))
        last[game_of] = line
    observations = np.array([np.frombuffer(line["observation"], np.float32) for line in lines])
    previous = _previous_actions(lines, game.observe_previous_action)
    see = jax.jit(trainer.trainer.observers.actor.features)
    features = np.asarray(see(np.hstack([observations, previous])))
    for line, frame in zip(lines, features, strict=True):
        line["frame"] = frame
    same = partial(np.allclose, rtol=1e-5, atol=1e-5)
    assert (rows <= len(replay.reward)).all(), "the ring has been overwritten"
    stored, frames = 0, replay.frame["actor"]
    for server, count in enumerate(rows):
        for row in range(count):
            if replay.ended[row, server]:
                continue
            steps = answers[replay.action[row, server].tobytes()]
            here, following = frames[row, server], frames[row + 1, server]
            found = [
                number
                for number, (before, line) in enumerate(steps)
                if same(here, before["frame"]) and same(following, line["frame"])
            ]
            assert found, (server, row)
            # Each is stored once.
            before, line = steps.pop(found[0])
            assert before["request"] == line["request"] - 1
            penalty = (config.collision_penalty_factor - 1) * game.collision_penalty * line["done"]
            assert replay.reward[row, server] == np.float32(np.float32(line["reward"]) + np.float32(penalty))
            assert replay.terminated[row, server] == line["done"]
            stored += 1
    assert stored == timesteps + kept
    return timesteps


def _previous_actions(lines: list[dict[str, Any]], observed: bool) -> np.ndarray:
    """What an observation shows beside its publication, (lines, 3) or (lines, 0)."""
    if not observed:
        return np.zeros((len(lines), 0), np.float32)
    return np.array([line["action"] if line["kind"] == "step" else np.zeros(3) for line in lines], np.float32)
