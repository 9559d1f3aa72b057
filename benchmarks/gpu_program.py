"""What XLA makes of a program for a GPU: launches, loops, bytes, and the operations in its kernels.

XLA compiles for an H100 that is not there. Only the time is estimated; everything else is read from
the optimized program (HLO) and from the kernels' assembly (PTX).
"""

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

# XLA's description of an H100 SXM, as text of its protocol buffer.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
BYTES_PER_SECOND = 3.352e12
OPERATIONS_PER_SECOND = 132 * 128 * 1.98e9
"""Of float32 outside matrix products; a fused product and sum counts as one."""
LAUNCH_SECONDS = 2.5e-6
WAIT_SECONDS = 10e-6
"""The host reads a condition from the device."""

ITEM_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"}
"""Instructions that launch nothing."""
SHAPE = re.compile(r"\b(pred|[suf]\d+|bf16)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    name: str
    shape: str
    operation: str
    rest: str
    """Operands and attributes."""
    root: bool

    @property
    def operands(self) -> list[str]:
        """Names."""
        return re.findall(r"%([\w.\-]+)", self.rest.split(")")[0])

    def called(self, attribute: str) -> str:
        """The computation that an attribute names; empty without it."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
        return found[1] if found else ""


@dataclasses.dataclass
class Figures:
    """Of one run of a program."""

    kernels: float = 0
    copies: float = 0
    library_calls: float = 0
    counted_loops: float = 0
    """Loops of known length: entered, not turns."""
    waiting_loops: float = 0
    """Loops whose length depends on data; one turn each is counted."""
    conditions: float = 0
    """Choices of a branch; the most expensive branch is counted."""
    bytes: float = 0
    """Read and written by all launches."""

    def add(self, other: "Figures", times: float = 1) -> None:
        """Add another's figures."""
        for field in dataclasses.fields(self):
            own, its = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, own + times * its)

    @property
    def launches(self) -> float:
        """Device operations."""
        return self.kernels + self.copies + self.library_calls

    @property
    def waits(self) -> float:
        """Times that the host waits for the device."""
        return 2 * self.waiting_loops + self.conditions

    def seconds(self) -> float:
        """A lower estimate: launches or memory, whichever takes longer, and the host's waits."""
        moving = max(self.launches * LAUNCH_SECONDS, self.bytes / BYTES_PER_SECOND)
        return moving + self.waits * WAIT_SECONDS


def shape_bytes(shape: str) -> int:
    """Bytes of all arrays in a shape."""
    return sum(
        ITEM_BYTES.get(kind, 4) * math.prod(int(size) for size in sizes.split(",") if size)
        for kind, sizes in SHAPE.findall(shape)
    )


class HLO:
    """An optimized program."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            head = re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
            if head:
                current = self.computations.setdefault(head[2], {})
                self.entry = head[2] if head[1] else self.entry
            found = INSTRUCTION.match(line)
            if found:
                root, name, shape, operation, rest = found.groups()
                current[name] = Instruction(name, shape, operation, rest, bool(root))

    def figures(self, computation: str | None = None) -> Figures:
        """Of one run of the program, or of one of its computations."""
        figures = Figures()
        instructions = self.computations[computation or self.entry]
        for one in instructions.values():
            if one.operation == "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', one.rest)
                figures.counted_loops += turns is not None
                figures.waiting_loops += turns is None
                for part in ("condition", "body"):
                    figures.add(self.figures(one.called(part)), int(turns[1]) if turns else 1)
            elif one.operation == "conditional":
                figures.conditions += 1
                names = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.rest)
                listed = re.search(r"branch_computations=\{(.*?)\}", one.rest)
                names += [name.strip(" %") for name in listed[1].split(",")] if listed else []
                figures.add(max(map(self.figures, names), key=Figures.seconds))
            elif one.operation in ("call", "async-start"):
                figures.add(self.figures(one.called("to_apply") or one.called("calls")))
            elif one.operation not in FREE and not one.operation.endswith("-done"):
                if one.operation.startswith("copy"):
                    figures.copies += 1
                elif one.operation == "custom-call" and "triton" not in one.rest:
                    figures.library_calls += 1
                else:
                    figures.kernels += 1
                figures.bytes += self._moved(one, instructions)
        return figures

    def _moved(self, one: Instruction, instructions: dict[str, Instruction]) -> int:
        """Bytes that an instruction reads and writes; of a sliced array, those of the slices."""
        fused = self.computations.get(one.called("calls"), {}) if one.operation == "fusion" else {}
        parameters = {
            int(re.match(r"\d+", inner.rest)[0]): inner.name  # type: ignore[index]
            for inner in fused.values()
            if inner.operation == "parameter"
        }
        total = 0
        for number, name in enumerate(one.operands):
            whole = shape_bytes(instructions[name].shape) if name in instructions else 0
            users = [inner for inner in fused.values() if parameters.get(number) in inner.operands]
            if users and all(_slices(inner, parameters[number]) for inner in users):
                reading = [user for user in users if user.operation != "dynamic-update-slice"]
                whole = min(whole, sum(shape_bytes(user.shape) for user in reading))
            total += whole
        roots = [inner for inner in fused.values() if inner.root]
        if roots and roots[0].operation == "dynamic-update-slice":
            update = fused.get(roots[0].operands[1])
            return total + (shape_bytes(update.shape) if update else 0)
        return total + shape_bytes(one.shape)


def _slices(user: Instruction, array: str) -> bool:
    return user.operation in ("dynamic-slice", "gather", "slice", "dynamic-update-slice") and (
        user.operands[0] == array and array not in user.operands[1:]
    )


CONTROL = {"CommandBuffer", "While", "Conditional", "Sequential"}
"""Thunks that launch nothing themselves."""

# A root or a quotient that is corrected is split into halves of 12 bits by this mask.
CORRECTION = "-4096"
APPROXIMATE = re.compile(r"\b((?:sqrt|rsqrt|rcp|div|sin|cos|ex2|lg2|tanh)\.(?:approx|full)[\w.]*)")
CONTRACTED = re.compile(r"\b((?:fma|mad)\.[\w.]*f32)")
FLUSHED = re.compile(r"\b\w+(?:\.\w+)*\.ftz[\w.]*")


def inexact_operations(ptx: str) -> dict[str, dict[str, int]]:
    """By kernel: operations on float32 that do not round as the game does, and how many.

    Fused products and sums, flushing of subnormal numbers, and approximate operations in a kernel
    that does not correct them. Kernels without any are left out.
    """
    found = {}
    for part in re.split(r"\.entry\s+", ptx)[1:]:
        name = part.split("(")[0].strip()
        operations = CONTRACTED.findall(part) + FLUSHED.findall(part)
        if CORRECTION not in part:
            operations += APPROXIMATE.findall(part)
        if operations:
            found[name] = dict(Counter(operations))
    return found


@dataclasses.dataclass(frozen=True)
class Graphs:
    """CUDA graphs (XLA: command buffers) of a program; loops are not multiplied."""

    graphs: int
    in_graphs: int
    """Operations that a graph launches."""
    alone: int
    """Operations that the host launches."""


def graphs(thunks: str) -> Graphs:
    """From XLA's list of what a program launches, nested by indentation."""
    operations, inside, depth = [], 0, None
    for line in thunks.splitlines():
        found = re.match(r"( *)\d+: k(\w+)", line)
        if found:
            indent, kind = len(found[1]), found[2]
            depth = None if depth is not None and indent <= depth else depth
            if kind == "CommandBuffer":
                depth = indent
            inside += depth is not None and kind not in CONTROL
            operations.append(kind)
    launched = sum(kind not in CONTROL for kind in operations)
    return Graphs(operations.count("CommandBuffer"), inside, launched - inside)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program that was compiled for the GPU."""

    figures: Figures
    ptx: str
    graphs: Graphs


def compile_for_gpu(function: Any, arguments: Any, dump: Path, donate: tuple[int, ...] = ()) -> Compiled:
    """Compile for an H100, which need not be there.

    Args:
        function: to be jitted.
        arguments: trees of arrays or of their shapes.
        dump: the folder of `--xla_dump_to` in XLA_FLAGS.
        donate: numbers of the arguments whose memory the results may take.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    mesh = topologies.make_mesh(topology, (1,), ("devices",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def placed(leaf: Any) -> Any:
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    before = set(dump.iterdir())
    arguments = jax.tree.map(placed, arguments)
    program = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    written = sorted(set(dump.iterdir()) - before)

    def text(end: str) -> str:
        return "\n".join(path.read_text(encoding="utf-8") for path in written if path.name.endswith(end))

    # The second is not written where no graph is made.
    thunks = graphs(text("after_thunk_passes.txt") or text("thunk_sequence.txt"))
    return Compiled(HLO(program.as_text() or "").figures(), text(".ptx"), thunks)
