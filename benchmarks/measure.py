"""Timing in turn, so that a busy machine is as busy for one as for another, and what a machine can do."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# Bytes of the arrays whose copying is timed: they fit the caches of one core, of all cores, or none.
COPIED_BYTES = (1 << 18, 1 << 23, 1 << 28)
MATRIX_SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What all parts need to know."""

    peers: frozenset[str] = frozenset()
    """Names of the packages to compare with."""
    num_envs: tuple[int, ...] = (1024, 4096, 16384)
    num_images: tuple[int, ...] = (64, 256, 1024)
    repeats: int = 5
    seconds: float = 1.0
    """Of one repeat of a row, about."""
    train_limit: float = 900.0
    """Seconds that a whole training may take."""
    train_seeds: int = 1
    """Trainings of each, with seeds from 0."""
    devices: int = 1
    """That `scaling` goes up to."""
    tiny: bool = False
    """Everything as small as it can be: for tests of the benchmark itself."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one unit, as XLA counts it: a loop inside a step once, every operand as if it came from memory."""

    bytes: float
    operations: float
    state_bytes: int = 0
    """Of what is carried from step to step: says which memory it lies in."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Something compiled and ready to be timed."""

    run: Callable[[], None]
    """Does `units` units, and returns when they are done."""
    units: int
    compile_seconds: float = 0.0
    cost: Cost | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """A row to be measured."""

    name: str
    size: int
    """Environments, frames or transitions at once."""
    unit: str
    """What is counted per second."""
    prepare: Callable[[], Prepared]
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of the row."""


Rows = list[dict[str, Any]]


def say(text: str) -> None:
    """Progress, on standard error: standard output holds the results."""
    print(text, file=sys.stderr, flush=True)


def measure(part: str, cases: Sequence[Case], options: Options) -> Rows:
    """Compile all, then time them in turn, each `repeats` times; a row per case.

    Rates are per second of the clock and, for busy machines, per second of a processor's time.
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
        calls.append(max(1, round(options.seconds / took)))
    rates: list[list[float]] = [[] for _ in cases]
    by_processor: list[list[float]] = [[] for _ in cases]
    for _ in range(options.repeats):
        for one, count, of, of_processor in zip(prepared, calls, rates, by_processor, strict=True):
            start, start_processor = time.perf_counter(), time.process_time()
            for _ in range(count):
                one.run()
            of.append(count * one.units / (time.perf_counter() - start))
            of_processor.append(count * one.units / (time.process_time() - start_processor))
    return [
        {
            "part": part,
            "name": case.name,
            "size": case.size,
            "unit": case.unit,
            **spread(of),
            "rates": of,
            "rates_by_processor": of_processor,
            "compile_seconds": one.compile_seconds,
            **(_costs(one.cost)),
            **case.more,
        }
        for case, one, of, of_processor in zip(cases, prepared, rates, by_processor, strict=True)
    ]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _costs(cost: Cost | None) -> dict[str, Any]:
    if cost is None:
        return {"bytes": None, "operations": None}
    return {"bytes": cost.bytes, "operations": cost.operations, "state_bytes": cost.state_bytes}


def compiled(
    step: Callable[[Any], Any], carry: Any, count: int, units: int, cost: Cost | None = None
) -> Prepared:
    """A jitted scan.

    Args:
        step: from a carry to the next, whose arrays are donated, and so really written.
        carry: the first.
        count: steps of a scan.
        units: per step.
        cost: of a unit; None asks XLA.
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
    """What XLA counts in a compiled scan, whose body it counts once, of which a step does `units` units."""
    import jax

    counts = program.cost_analysis() or {}
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in map(_raw, jax.tree.leaves(carry)))
    return Cost(counts.get("bytes accessed", 0) / units, counts.get("flops", 0) / units, state)


def _raw(leaf: Any) -> Any:
    import jax

    return jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def machine(options: Options) -> dict[str, Any]:
    """What this machine does at best: bytes copied (read and written) and float32 operations per second."""
    import jax.numpy as jnp

    limit = 1 << 12 if options.tiny else max(COPIED_BYTES)
    sizes = [min(size, limit) for size in COPIED_BYTES]
    side = 64 if options.tiny else MATRIX_SIDE
    matrix = jnp.full((side, side), 1 / side, jnp.float32)
    times = 2 if options.tiny else 10
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
    rows = measure("machine", cases, options)
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
    """Add to each row the rate that memory or arithmetic allows, which of the two, and the share reached.

    The memory is the fastest one that holds the row's state.
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
    """Spread of ours over the peer's, repeat by repeat, each at its best size; None where one is missing.

    Args:
        rows: of one part, in which every row has as many repeats.
        ours, peer: names.
        factor: units of the peer's in one of ours.
    """

    def best(name: str) -> dict[str, Any] | None:
        return max((row for row in rows if row["name"] == name), key=lambda row: row["median"], default=None)

    mine, other = best(ours), best(peer)
    if mine is None or other is None:
        return None

    def ratios(rates: str) -> list[float]:
        return [factor * a / b for a, b in zip(mine[rates], other[rates], strict=True)]

    by_processor = statistics.median(ratios("rates_by_processor"))
    return {**spread(ratios("rates")), "by_processor": by_processor}
