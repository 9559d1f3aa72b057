"""`python -m benchmarks fleet_faults`: a fleet whose servers fail stores no wrong transition.

Our servers run in lockstep, each behind a proxy that can spoil a response. Faults are random: the
server or its parent, the proxy, is killed or stopped; a response is delayed, reset, truncated,
garbage or of a wrong shape. At the end every stored transition is looked up in the logs of the
servers, and remaining processes are counted.
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
# Each fault, and the cause that the fleet must count.
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
    """Play with a fleet whose servers fail; the exit status is 1 if a requirement is not met."""

    steps: int = 20_000
    """Steps of the whole fleet."""
    servers: int = 4
    """Servers in the fleet."""
    every: int = 500
    """Mean number of steps per fault."""
    timeout: float = 5.0
    """Timeout of a response in seconds."""
    seed: int = 0
    """Seed of actions and faults."""
    server_command: str = "{python} -m jaxdodge.serve --mode lockstep --http --port {server_port} --log {log}"
    """Starts a server that writes this log."""
    out: Path | None = None
    """Write the figures as JSON to this file."""


def inject(fault: str, folder: Path, process: int) -> None:
    if fault.endswith("its parent"):
        os.kill(process, getattr(signal, fault.split()[0]))
    elif fault.endswith("the server"):
        order(folder, process, {"SIGKILL": "kill", "SIGSTOP": "stop"}[fault.split()[0]])
    else:
        order(folder, process, fault)


def play(options: Options, folder: Path, log: Path) -> tuple[dict[str, Any], list[Any]]:
    """Returns the figures and the stored transitions."""
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
        start = printed = time.monotonic()
        for step in range(options.steps):
            if random.random() < 1 / options.every:
                # A server that has just responded and receives the next step.
                there = np.flatnonzero(info["_episode_steps"] & ~ended)
                if len(there):
                    # All kinds equally often.
                    waiting = waiting or list(random.permutation(list(FAULTS)))
                    fault, index = waiting.pop(), int(random.choice(there))
                    inject(fault, folder, fleet.process_ids[index])
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
            if time.monotonic() - printed > 10:
                printed = time.monotonic()
                print(f"{step + 1:6d} steps, {printed - start:5.0f} s: {fleet.summary()}", flush=True)
        stored += transitions.rest()
        wall = time.monotonic() - start
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
        # Of the steps that started with at least one server.
        "longest_step_seconds": round(max(seconds), 3),
        "median_step_seconds": round(float(np.median(seconds)), 5),
        "close_seconds": round(closed, 2),
    }, stored


def run(options: Options) -> int:
    """Play, check and print; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        log = folder / "log.jsonl"
        # Restarted servers load the programs that the first one compiled.
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
    print("passed" if good else "FAILED")
    return 0 if good else 1
