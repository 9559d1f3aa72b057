"""Timing of cases in turn, so that other load affects all alike, and the machine's peak rates."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Bytes of the copied arrays: they fit into the cache of one core, the cache of all cores, and no
# cache.
COPIED_BYTES = (1 << 18, 1 << 23, 1 << 28)
MATRIX_SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of all parts."""

    peers: frozenset[str] = frozenset()
    """Packages to compare with."""
    num_envs: tuple[int, ...] = (1024, 4096, 16384)
    num_images: tuple[int, ...] = (64, 256, 1024)
    repeats: int = 5
    seconds: float = 1.0
    """Approximate time of a repeat."""
    train_limit: float = 900.0
    """Timeout of a training in seconds."""
    train_seeds: int = 1
    """Trainings of each agent, with seeds from 0."""
    devices: int = 1
    """Largest number of devices of `scaling`."""
    tiny: bool = False
    """Use the smallest sizes, to test the benchmark itself."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a unit as XLA counts it: a loop body once, and every operand as a memory access."""

    bytes: float
    operations: float
    state_bytes: int = 0
    """Bytes carried from step to step; they decide which memory level holds them."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A compiled case, ready to be timed."""

    run: Callable[[], None]
    """Computes `units` units and waits for them."""
    units: int
    compile_seconds: float = 0.0
    cost: Cost | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table, to be measured."""

    name: str
    size: int
    """Batch size: environments, frames or transitions."""
    unit: str
    """The unit of the rate."""
    prepare: Callable[[], Prepared]
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of the row."""


Rows = list[dict[str, Any]]


def say(text: str) -> None:
    """Print progress to standard error; standard output has the results."""
    print(text, file=sys.stderr, flush=True)


def measure(part: str, cases: Sequence[Case], settings: Settings) -> Rows:
    """Compile all cases, then time them in turn, each `repeats` times; returns a row per case.

    Rates are per second of wall time and, for busy machines, per second of CPU time.
    """
    prepared, calls = [], []
    for case in cases:
        one = case.prepare()
        one.run()
        start = time.perf_counter()
        one.run()
        took = time.perf_counter() - start
        say(f"{part}: {case.name}, {case.size:,} at once: {one.units / took:,.0f} {case.unit}/s")
        prepared.append(one)
        calls.append(max(1, round(settings.seconds / took)))
    rates: list[list[float]] = [[] for _ in cases]
    cpu_rates: list[list[float]] = [[] for _ in cases]
    for _ in range(settings.repeats):
        for one, count, of, of_cpu in zip(prepared, calls, rates, cpu_rates, strict=True):
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                one.run()
            of.append(count * one.units / (time.perf_counter() - start))
            of_cpu.append(count * one.units / (time.process_time() - start_cpu))
    return [
        {
            "part": part,
            "name": case.name,
            "size": case.size,
            "unit": case.unit,
            **spread(of),
            "rates": of,
            "rates_by_processor": of_cpu,
            "compile_seconds": one.compile_seconds,
            **(_costs(one.cost)),
            **case.more,
        }
        for case, one, of, of_cpu in zip(cases, prepared, rates, cpu_rates, strict=True)
    ]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _costs(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {"bytes": None, "operations": None}
    return {"bytes": cost.bytes, "operations": cost.operations, "state_bytes": cost.state_bytes}


def compiled(
    step: Callable[[Any], Any], carry: Any, count: int, units: int, cost: Cost | None = None
) -> Prepared:
    """A compiled scan.

    Args:
        step: from a carry to the next; the arrays are donated, so every step writes them.
        carry: the initial one.
        count: steps of a scan.
        units: per step.
        cost: of a unit; default: as XLA counts it.
    """
    import jax

    def scanned(carry: Any) -> Any:
        return jax.lax.scan(lambda carry, _: (step(carry), None), carry, None, length=count)[0]

    start = time.perf_counter()
    program = jax.jit(scanned, donate_argnums=0).lower(carry).compile()
    seconds = time.perf_counter() - start
    if cost is None:
        cost = counted(program, carry, units)
    state = [carry]

    def run() -> None:
        state[0] = jax.block_until_ready(program(state[0]))

    return Prepared(run, count * units, seconds, cost)


def counted(program: Any, carry: Any, units: int) -> Cost:
    """XLA's cost of a compiled scan with `units` units per step; XLA counts the body once."""
    import jax

    counts = program.cost_analysis() or {}
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in map(_raw, jax.tree.leaves(carry)))
    return Cost(counts.get("bytes accessed", 0) / units, counts.get("flops", 0) / units, state)


def _raw(leaf: Any) -> Any:
    import jax

    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def machine(settings: Settings) -> dict[str, Any]:
    """Peak rates of this machine: bytes read and written, and float32 operations, per second."""
    import jax.numpy as jnp

    limit = 1 << 12 if settings.tiny else max(COPIED_BYTES)
    sizes = [min(size, limit) for size in COPIED_BYTES]
    side = 64 if settings.tiny else MATRIX_SIDE
    matrix = jnp.full((side, side), 1 / side, jnp.float32)
    times = 2 if settings.tiny else 10
    cases = [
        *(
            # Read, one operation, write.
            Case(f"copy of {size:,} bytes", size, "bytes", lambda size=size: _copy(size, times))  # type: ignore[misc]
            for size in sizes
        ),
        Case(
            f"matrices of {side} x {side}",
            side,
            "operations",
            lambda: compiled(
                lambda carry: (carry[0] @ carry[1], carry[1]), (matrix + 0, matrix), times, 2 * side**3
            ),
        ),
    ]
    rows = measure("machine", cases, settings)
    return {
        "bytes_per_second": [{"bytes": row["size"], **_only_spread(row)} for row in rows[:-1]],
        "operations_per_second": _only_spread(rows[-1]),
    }


def _copy(size: int, times: int) -> Prepared:
    import jax.numpy as jnp

    times *= max(1, COPIED_BYTES[1] // size)
    return compiled(lambda array: array + 1, jnp.zeros(size // 4, jnp.float32), times, 2 * size)


def _only_spread(row: dict[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in ("median", "min", "max")}


def add_roofline(rows: Rows, machine: dict[str, Any]) -> None:
    """Add the roofline to each row: the limiting resource, its rate, and the share reached.

    The memory limit is that of the fastest memory level that holds the row's state.
    """
    levels = machine["bytes_per_second"]
    for row in rows:
        if row.get("bytes") is None:
            continue
        level = next((one for one in levels if one["bytes"] >= row["state_bytes"]), levels[-1])
        limits = {
            "memory": level["median"] / row["bytes"] if row["bytes"] else float("inf"),
            "arithmetic": machine["operations_per_second"]["median"] / row["operations"]
            if row["operations"]
            else float("inf"),
        }
        limit = min(limits, key=limits.__getitem__)
        if limits[limit] < float("inf"):
            row["roofline"] = {
                "limit": limit,
                "rate": limits[limit],
                "share": row["median"] / limits[limit],
            }


def ratio(rows: Rows, ours: str, peer: str, factor: float = 1.0) -> dict[str, float] | None:
    """Spread of the ratio of our rate to the peer's, repeat by repeat; None if one is missing.

    Each is taken at its best batch size.

    Args:
        rows: of one part, all with the same number of repeats.
        ours, peer: names of rows.
        factor: peer units per unit of ours.
    """

    def best(name: str) -> dict[str, Any] | None:
        return max((row for row in rows if row["name"] == name), key=lambda row: row["median"], default=None)

    mine, other = best(ours), best(peer)
    if mine is None or other is None:
        return None

    def ratios(rates: str) -> list[float]:
        return [factor * a / b for a, b in zip(mine[rates], other[rates], strict=True)]

    return {**spread(ratios("rates")), "by_processor": statistics.median(ratios("rates_by_processor"))}
