"""The benchmark suite: env, render, sac, train and scaling, and what they are compared with."""

import dataclasses
import importlib.util
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks.measure import Settings, add_roofline, machine, say
from benchmarks.report import Document, markdown
from jaxdodge.fields import ConfigError

PARTS = ("env", "render", "sac", "train", "scaling")
# Package names by module.
PEERS = {
    "gymnax": "gymnax",
    "numpy": "numpy",
    "numba": "numba",
    "sbx": "sbx-rl",
    "stable_baselines3": "stable-baselines3",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure speed and print tables.

    The parts are env: steps of environments with vector observations; render: frames, alone and in
    environments; sac: updates; train: whole trainings to a return of 800; scaling: steps over the
    number of environments and of devices.

    Further benchmarks are `python -m benchmarks NAME`, each with its own --help. check: compare the
    ratios with the committed ones. gpu: programs compiled for a GPU. ablation: studies and seeds.
    serve_throughput: the server. soak: a million requests to the server. fleet_faults: a fleet
    whose servers fail. attacks: attacks on a server and on files.
    """

    parts: Annotated[tuple[Literal[PARTS], ...], tyro.conf.Positional] = PARTS  # type: ignore[valid-type]
    """Parts to measure; default: all."""
    compare: Literal["peers"] | None = None
    """peers: also measure gymnax, NumPy, numba, sbx and Stable-Baselines3, as far as installed."""
    num_envs: tuple[int, ...] = Settings.num_envs
    """Numbers of environments of `env`; ratios use the best number of each."""
    num_images: tuple[int, ...] = Settings.num_images
    """Numbers of environments or frames of `render`."""
    repeats: int = Settings.repeats
    """Timed repeats of every row."""
    seconds: float = Settings.seconds
    """Approximate seconds of a repeat."""
    train_limit: float = Settings.train_limit
    """Timeout of a training of `train` in seconds."""
    train_seeds: int = Settings.train_seeds
    """Trainings of each agent in `train`, with seeds from 0, in turn."""
    devices: int = 1
    """Largest number of devices of `scaling` (powers of two); on a CPU, virtual devices."""
    tiny: bool = False
    """Use the smallest sizes to test the benchmark itself; the figures are meaningless."""
    out: Path | None = None
    """Write everything as JSON to this file."""


def installed() -> set[str]:
    """The modules of PEERS that are installed."""
    return {name for name in PEERS if importlib.util.find_spec(name)}


def run(options: Options) -> int:
    """Measure, print and write; returns the exit status."""
    for name in ("num_envs", "num_images", "repeats", "train_seeds", "devices"):
        values = getattr(options, name)
        if min(values if isinstance(values, tuple) else (values,), default=0) < 1:
            raise ConfigError(f"{name}: invalid value {values}; expected whole numbers from 1")
    for name in ("seconds", "train_limit"):
        if not getattr(options, name) > 0:
            raise ConfigError(f"{name}: invalid value {getattr(options, name)}; expected seconds above 0")
    if options.out is not None:
        options.out.touch()
    print(markdown(measured(options)))
    return 0


def measured(options: Options) -> Document:
    """All measurements; with `out`, also written to the file after every part."""
    import jax

    from jaxdodge.runs.cluster import Cluster

    Cluster(options.devices).join()

    from benchmarks.env import bench_env
    from benchmarks.render import bench_render
    from benchmarks.sac import bench_sac
    from benchmarks.scaling import bench_scaling
    from benchmarks.train import bench_train
    from jaxdodge.hardware import hardware

    # A cached program would hide the compilation time.
    jax.config.update("jax_enable_compilation_cache", False)
    load = [round(value, 2) for value in os.getloadavg()]
    parts: dict[str, Any] = {
        "env": bench_env,
        "render": bench_render,
        "sac": bench_sac,
        "train": bench_train,
        "scaling": bench_scaling,
    }
    peers = installed() if options.compare else set()
    for name in sorted(PEERS.keys() - peers) if options.compare else ():
        say(f"{PEERS[name]} is not installed and is skipped (pip install 'jaxdodge[bench]')")
    names = ("num_envs", "num_images", "repeats", "seconds", "train_limit", "train_seeds", "devices", "tiny")
    settings = Settings(peers=frozenset(peers), **{name: getattr(options, name) for name in names})
    if options.tiny:
        settings = dataclasses.replace(settings, num_envs=(4,), num_images=(2,), repeats=2, seconds=1e-6)
    document: Document = {
        "hardware": hardware() | {"cores_used": len(os.sched_getaffinity(0)), "load_average": load},
        "packages": {
            name: metadata.version(name) for name in ("jax", *sorted(PEERS[name] for name in peers))
        },
        "parts": [],
        "machine": machine(settings),
        "rows": [],
        "ratios": {},
    }
    for part in dict.fromkeys(options.parts):
        rows, ratios = parts[part](settings)
        add_roofline(rows, document["machine"])
        document["parts"].append(part)
        document["rows"] += rows
        document["ratios"] |= {name: spread for name, spread in ratios.items() if spread is not None}
        # After every part, so that an interruption loses only one part.
        if options.out is not None:
            options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document
