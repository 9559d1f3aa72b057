"""A fleet under faults: does it go on, and is everything that it stores true?

    python benchmarks/fleet_faults.py --out benchmarks/fleet_faults.json

Servers of our own in lockstep, each behind a proxy that can spoil an answer. Faults come at random: the
server or its parent, the proxy, is killed or stopped; an answer is delayed, reset, cut, garbage or of a
wrong shape. In the end every stored transition is looked up in the servers' own logs, and the processes that
are left are counted. Exit status: 1 if anything is not as it must be.
"""

import collections
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from fault_proxy import order  # noqa: E402
from server_log import Answered, read_log  # noqa: E402

from jaxdodge.bevy.fleet import Fleet  # noqa: E402
from jaxdodge.bevy.transitions import Transitions  # noqa: E402
from jaxdodge.config import GameConfig  # noqa: E402
from jaxdodge.hardware import hardware  # noqa: E402

GAME = GameConfig(
    level=2, action_space_type="basic_3d", spawn_angle_degrees=30.0, projectile_spawn_interval=0.1
)
# What is done, and as what the fleet must count it.
FAULTS = {
    "SIGKILL of the server": "unreachable",
    "SIGKILL of its parent": "exited",
    "SIGSTOP of the server": "timeout",
    "SIGSTOP of its parent": "timeout",
    "delay": "timeout",
    "reset": "unreachable",
    "cut": "unreachable",
    "garbage": "bad_response",
    "garbage_body": "bad_response",
    "wrong_shape": "bad_response",
}
SLACK = 1.0


@dataclasses.dataclass(frozen=True)
class Options:
    """Play under faults."""

    steps: int = 20_000
    """Steps of the whole fleet."""
    servers: int = 4
    """Servers in the fleet."""
    every: int = 500
    """Steps per fault, on average."""
    timeout: float = 5.0
    """Seconds to wait for a response."""
    seed: int = 0
    """Of actions and faults."""
    server_command: str = "{python} -m jaxdodge.serve --mode lockstep --http --port {server_port} --log {log}"
    """Starts a server that keeps such a log."""
    out: Path | None = None
    """JSON file for the figures."""


def inject(fault: str, folder: Path, process: int) -> None:
    if fault.endswith("its parent"):
        os.kill(process, getattr(signal, fault.split()[0]))
    elif fault.endswith("the server"):
        order(folder, process, {"SIGKILL": "kill", "SIGSTOP": "stop"}[fault.split()[0]])
    else:
        order(folder, process, fault)


def play(options: Options, folder: Path, log: Path) -> tuple[dict[str, Any], list[Any]]:
    """The figures, and the stored transitions."""
    random = np.random.default_rng(options.seed)
    server = options.server_command.replace("{python}", sys.executable).replace("{log}", str(log))
    command = (
        f"{sys.executable} {TESTS / 'fault_proxy.py'} {{port}} {folder} {options.timeout + 0.5} -- {server}"
    )
    fleet = Fleet(
        GAME,
        server_command=command,
        num_envs=options.servers,
        timeout=options.timeout,
        start_timeout=300.0,
        max_restarts=options.steps,
    )
    injected: collections.Counter[str] = collections.Counter()
    expected: collections.Counter[str] = collections.Counter()
    stored, seconds, away = [], [], 0
    try:
        observations, info = fleet.reset(seed=options.seed)
        transitions = Transitions(observations)
        ended = np.zeros(options.servers, bool)
        waiting: list[str] = []
        begun = told = time.monotonic()
        for step in range(options.steps):
            if random.random() < 1 / options.every:
                # One that has just answered, and will be asked for a step next.
                there = np.flatnonzero(info["_episode_steps"] & ~ended)
                if len(there):
                    # Every kind as often as the others.
                    waiting = waiting or list(random.permutation(list(FAULTS)))
                    fault, server = waiting.pop(), int(random.choice(there))
                    inject(fault, folder, fleet.process_ids[server])
                    injected[fault] += 1
                    expected[FAULTS[fault]] += 1
            actions = random.uniform(-1, 1, (options.servers, 3)).astype(np.float32)
            anyone, asked = info["_episode_steps"].any(), time.monotonic()
            observations, rewards, terminations, truncations, info = fleet.step(actions)
            ended = terminations | truncations
            if anyone:
                seconds.append(time.monotonic() - asked)
            away += int((~info["_episode_steps"]).sum())
            stored += transitions.add(actions, observations, rewards, terminations, truncations, info)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"{step + 1:6d} steps, {told - begun:5.0f} s: {fleet.summary()}", flush=True)
        stored += transitions.rest()
        wall = time.monotonic() - begun
    finally:
        closing = time.monotonic()
        fleet.close()
        closed = time.monotonic() - closing
    causes = {
        name.removeprefix("faults_"): count
        for name, count in fleet.counters.items()
        if name.startswith("faults_")
    }
    return {
        "faults": dict(injected),
        "expected": dict(expected),
        "causes": causes,
        "restarts": fleet.counters["restarts"],
        "dropped_transitions": fleet.counters["dropped_transitions"],
        "rows_without_server": away,
        "seconds": round(wall, 1),
        "steps_per_second": round(options.steps / wall, 1),
        # Of those steps at whose beginning at least one server was there.
        "longest_step_seconds": round(max(seconds), 3),
        "median_step_seconds": round(float(np.median(seconds)), 5),
        "close_seconds": round(closed, 2),
    }, stored


def main(options: Options) -> int:
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        log = folder / "log.jsonl"
        # The restarts then load what the first start has compiled.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        figures, stored = play(options, folder, log)
        _, orphans = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=5)
        answered = Answered(read_log(log))
        for transition in stored:
            answered.check(transition)
    figures |= {
        "stored_transitions": len(stored),
        "verified_transitions": len(stored),
        "steps_answered_by_servers": answered.steps,
        "orphans": len(orphans),
    }
    print(f"{'fault':24s} {'injected':>8s}  counted as")
    for fault, cause in FAULTS.items():
        print(f"{fault:24s} {figures['faults'].get(fault, 0):8d}  {cause}")
    for name in list(figures)[2:]:
        print(f"{name}: {figures[name]}")
    report = {"options": {**dataclasses.asdict(options), "out": None}, **figures, "hardware": hardware()}
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    good = (
        figures["longest_step_seconds"] <= options.timeout + SLACK
        and not orphans
        and figures["restarts"] >= sum(figures["faults"].values())
        and answered.steps - len(stored) <= figures["dropped_transitions"]
    )
    print("as it must be" if good else "NOT as it must be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="benchmarks/fleet_faults.py")))
