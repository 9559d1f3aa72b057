"""`python -m benchmarks`: how fast everything is, beside what one would take instead.

Exit status: 0 measured, or no ratio fell; 1 a ratio fell; 2 bad input; 130 interrupted.
"""

import dataclasses
import importlib.util
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks import guard
from benchmarks.measure import Options, add_roofline, machine, say
from benchmarks.report import Document, markdown
from jaxdodge.cli import guarded, parse
from jaxdodge.fields import ConfigError

PARTS = ("env", "render", "sac", "train", "scaling")
# By module, as pip names them.
PEERS = {
    "gymnax": "gymnax",
    "numpy": "numpy",
    "numba": "numba",
    "sbx": "sbx-rl",
    "stable_baselines3": "stable-baselines3",
}
COMMITTED = Path("benchmarks/bench.json")


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure speed; tables go to standard output. `python -m benchmarks check` guards the ratios.

    The parts: env, steps of environments with vectors; render, frames, alone and in environments; sac,
    gradient steps; train, whole trainings to a return of 800; scaling, steps over the number of environments
    and of devices.
    """

    parts: Annotated[tuple[Literal[PARTS], ...], tyro.conf.Positional] = PARTS  # type: ignore[valid-type]
    """Which; all without any."""
    compare: Literal["peers"] | None = None
    """peers: also gymnax, NumPy, numba, sbx and Stable-Baselines3, as far as installed, in turn with ours."""
    num_envs: tuple[int, ...] = Options.num_envs
    """Numbers of environments of `env`; ratios are of each one's best."""
    num_images: tuple[int, ...] = Options.num_images
    """Numbers of environments or frames of `render`."""
    repeats: int = Options.repeats
    """Timed repeats of every row."""
    seconds: float = Options.seconds
    """How long a repeat of a row takes, about."""
    train_limit: float = Options.train_limit
    """Seconds after which a training of `train` is given up."""
    train_seeds: int = Options.train_seeds
    """Trainings of each in `train`, with seeds from 0, in turn; one alone has no spread."""
    devices: int = 1
    """How many `scaling` goes up to, in powers of two; without accelerators, parts of the processor."""
    tiny: bool = False
    """Everything as small as can be, to try the benchmark itself; the figures mean nothing."""
    out: Path | None = None
    """Write everything as JSON to this file."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Fail (exit status 1, a line each) if a ratio to a peer fell by more than a margin.

    Rates are not compared, since machines differ.
    """

    result: Path | None = None
    """What `--out` wrote; without, env, render and sac are measured now."""
    against: Path = COMMITTED
    """The committed result."""
    margin: float = 0.25
    """Share by which a ratio may fall: medians of repeated runs on a busy machine differ by up to a fifth."""


def installed() -> set[str]:
    """Names of PEERS."""
    return {name for name in PEERS if importlib.util.find_spec(name)}


def bench(options: Bench) -> int:
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


def measured(options: Bench) -> Document:
    """Everything that was measured; written to `out` too, as far as it has come."""
    import jax

    from jaxdodge.agents.devices import Cluster

    Cluster(options.devices).join()

    from benchmarks.env import bench_env
    from benchmarks.render import bench_render
    from benchmarks.sac import bench_sac
    from benchmarks.scaling import bench_scaling
    from benchmarks.train import bench_train
    from jaxdodge.hardware import hardware

    # What comes from a cache would not be the time of compiling.
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
        say(f"{PEERS[name]} is not installed, and not compared with (pip install 'jaxdodge[bench]')")
    names = ("num_envs", "num_images", "repeats", "seconds", "train_limit", "train_seeds", "devices", "tiny")
    settings = Options(peers=frozenset(peers), **{name: getattr(options, name) for name in names})
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
        # After every part, so that an interruption costs one.
        if options.out is not None:
            options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def check(options: Check) -> int:
    """Compare; returns the exit status."""
    if not 0 <= options.margin < 1:
        raise ConfigError(f"margin: invalid value {options.margin}; expected a share from 0, below 1")
    committed = guard.read(options.against)
    if options.result is None:
        # Without one of them its ratios would look fallen, and only after minutes.
        missing = [PEERS[name] for name in sorted(PEERS.keys() - installed())]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)}: not installed, so not to be compared with; "
                "expected pip install 'jaxdodge[bench]', or --result"
            )
        result = guard.guarded_ratios(measured(Bench(parts=guard.GUARDED, compare="peers")))
    else:
        result = guard.read(options.result)
    lines = guard.fallen(result, committed, options.margin)
    for line in lines:
        print(line)
    compared = sum(name.split(":")[0] in result["parts"] for name in committed["medians"])
    if not lines:
        print(f"{compared} ratios, none fell by more than {options.margin:.0%}")
    return 1 if lines else 0


def main(arguments: list[str]) -> int:
    """Parse the command line and run; returns the exit status."""
    program = "python -m benchmarks"
    if arguments[:1] == ["check"]:
        checked = parse(lambda: tyro.cli(Check, prog=f"{program} check", args=arguments[1:]))
        return guarded(check, checked)
    return guarded(bench, parse(lambda: tyro.cli(Bench, prog=program, args=arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
