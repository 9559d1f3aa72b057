"""`python -m benchmarks ablation`: seeds in one program and single runs, studies and a script.

All use small networks on vector observations, as in configs/studies. The two sides take turns. CPU
time is reported too, because other work on the machine affects it less than wall time.
"""

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml

from jaxdodge.hardware import hardware

SEEDS = 5
BASE = {
    "level": 2,
    "spawn_angle_degrees": 30,
    "num_envs": 256,
    "gradient_steps": 16,
    "batch_size": 128,
    "net_arch": [64, 64],
    "buffer_size": 200_000,
    "policy_averaging": 0.002,
    "eval_freq": 51_200,
    "n_eval_episodes": 64,
}
ANGLES = [15, 30, 60, 120, 180]
EPISODES = 128
TOGETHER, APART = "in one program", "one after the other"
PARTS = ("epochs", "runs", "study")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare five seeds in one program with five runs, and a study with a script.

    epochs: training epochs alone, compiled before. runs: the command `train` from start to end with
    an empty compilation cache, which the five single runs share. study: the command `ablate`, and a
    script that trains and evaluates the same cells, both compiled before.
    """

    parts: Annotated[tuple[Literal[PARTS], ...], tyro.conf.Positional] = PARTS  # type: ignore[valid-type]
    """Parts to measure; default: all."""
    repeats: int = 5
    """Repeats of each side."""
    updates: int = 12_000
    """Updates of each seed, in runs and study."""
    machine: str | None = None
    """Name of the machine, for the file."""
    out: Path | None = None
    """JSON file; parts that are not measured keep their figures."""


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    began, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - began, time.process_time() - used


def measure_epochs(repeats: int) -> dict[str, Any]:
    """Epochs of five seeds in one program, and one after the other."""
    import jax
    import jax.numpy as jnp

    from jaxdodge.agents.program import Program
    from jaxdodge.runs.epochs import steps_of_an_epoch
    from jaxdodge.runs.folder import split
    from jaxdodge.runs.options import DEFAULTS

    states, programs = {}, {}
    for seeds in (1, SEEDS):
        game, train = split({**DEFAULTS, **BASE, "seeds": seeds})
        programs[seeds] = Program(game, train, steps_of_an_epoch(game, train))
        keys = jax.random.split(jax.random.key(0), seeds)
        states[seeds] = programs[seeds].trainer.init(keys if seeds > 1 else keys[0], programs[seeds].params)

    def epochs(seeds: int) -> None:
        """One epoch of each seed, with updates at every step."""
        for _ in range(SEEDS // seeds):
            states[seeds], _ = jax.block_until_ready(
                programs[seeds].epoch(states[seeds], programs[seeds].params, jnp.int32(train.learning_starts))
            )

    for seeds in (1, SEEDS):
        epochs(seeds)
    times: dict[int, list[tuple[float, float]]] = {1: [], SEEDS: []}
    for _ in range(repeats):
        for seeds in (1, SEEDS):
            times[seeds].append(timed(partial(epochs, seeds)))
    named = {TOGETHER: times[SEEDS], APART: times[1]}
    return compared(named, TOGETHER, APART) | {
        "updates": SEEDS * steps_of_an_epoch(game, train) // train.train_freq * train.gradient_steps
    }


def measure_runs(repeats: int, updates: int) -> dict[str, Any]:
    """The command `train`, once with five seeds and five times with one."""
    from jaxdodge.ablation.study import timesteps_of
    from jaxdodge.runs.folder import split
    from jaxdodge.runs.options import DEFAULTS

    total = timesteps_of(updates, *split({**DEFAULTS, **BASE}))
    times: dict[str, list[tuple[float, float]]] = {TOGETHER: [], APART: []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.yaml"
        file.write_text(yaml.safe_dump(BASE | {"total_timesteps": total}))
        train = ["-m", "jaxdodge.train", "--config", file, "--results", folder]
        for repeat in range(repeats):
            compiled = Path(folder) / f"compiled {repeat}"
            times[TOGETHER].append(command([*train, "--seeds", f"{SEEDS}"], compiled / "together"))
            each = [command([*train, "--seed", f"{seed}"], compiled / "apart") for seed in range(SEEDS)]
            times[APART].append((sum(wall for wall, _ in each), sum(used for _, used in each)))
    return compared(times, TOGETHER, APART) | {"updates": SEEDS * updates}


def compared(times: dict[str, list[tuple[float, float]]], ours: str, theirs: str) -> dict[str, Any]:
    """The seconds of both sides, and the median of the ratios of consecutive pairs."""
    found: dict[str, Any] = {}
    for place, what in enumerate(("wall", "processor")):
        pairs = [(mine[place], other[place]) for mine, other in zip(times[ours], times[theirs], strict=True)]
        ratios = sorted(mine / other for mine, other in pairs)
        found[what] = {
            ours: [round(mine, 3) for mine, _ in pairs],
            theirs: [round(other, 3) for _, other in pairs],
            "ratio": round(statistics.median(ratios), 4),
            "ratios": [round(ratio, 4) for ratio in ratios],
        }
    return found


BY_HAND = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jaxdodge.ablation.study_file import read_study
from jaxdodge.evaluation.episodes import evaluate
from jaxdodge.runs.folder import Run
from jaxdodge.runs.loop import Training
import dataclasses

study = read_study(Path(sys.argv[1]))
for number, cell in enumerate(study.cells):
    game, train = cell.configuration()
    train = dataclasses.replace(train, seeds=study.seeds)
    training = Training(game, train)
    training.start()
    run = Run(Path(sys.argv[2]) / str(number))
    run.prepare(game, train)
    training.learn(run, lambda: None)
    trainer = training.trainer
    for seed, part in enumerate(run.seed_runs(train)):
        policy = jax.tree.map(jnp.asarray, part.load_policy("final", trainer.policy_shapes()))
        key = jax.random.key(seed)
        episodes = evaluate(trainer.env, trainer.policy, policy, training.params, key, study.episodes)
        print(cell.name, seed, episodes.summary()["mean"])
"""


def measure_study(repeats: int, updates: int) -> dict[str, Any]:
    """The command `ablate` on a study, and a script that trains and evaluates the same cells."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.yaml"
        content = {
            "question": "Which?",
            "base": BASE,
            "factors": {"spawn_angle_degrees": ANGLES},
            "seeds": 3,
            "budget": {"updates": updates},
            "evaluate": {"episodes": EPISODES},
        }
        times: dict[str, list[tuple[float, float]]] = {"study": [], "by hand": []}
        for repeat in range(repeats + 1):
            for side in times:
                # The first round compiles; it has the same budget, which is part of the program.
                shown = content if repeat else content | {"factors": {"spawn_angle_degrees": ANGLES[:1]}}
                file.write_text(yaml.safe_dump(shown, sort_keys=False))
                out = Path(folder) / f"{side}{repeat}"
                what = ["-m", "jaxdodge.ablate", file, "--out", out] if side == "study" else []
                took = command([*(what or ["-c", BY_HAND, file, out])], Path(folder) / "compiled")
                print(side, *(f"{seconds:.1f} s" for seconds in took), flush=True)
                if repeat:
                    times[side].append(took)
    return compared(times, "study", "by hand") | {
        "cells": len(ANGLES),
        "seeds": 3,
        "updates": updates,
    }


def command(arguments: list[Any], compiled: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process and its children.

    Args:
        arguments: of Python.
        compiled: folder for compiled programs.
    """
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": f"{compiled}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    began, before = time.perf_counter(), used()
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, used() - before


def run(options: Options) -> int:
    """Measure, print and write; returns the exit status."""
    content = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for part in options.parts:
        if part == "epochs":
            found = measure_epochs(options.repeats)
        else:
            measure = measure_runs if part == "runs" else measure_study
            found = measure(options.repeats, options.updates)
        cores = len(os.sched_getaffinity(0))
        content[part] = found | {"machine": options.machine, "cores": cores, "hardware": hardware()}
        print(json.dumps(content[part], indent=1))
        if options.out:
            options.out.write_text(json.dumps(content, indent=1) + "\n")
    return 0
