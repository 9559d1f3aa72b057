"""The memory of a process that computes one task after another."""

import contextlib
import ctypes
import resource
from pathlib import Path

import jax

from jaxdodge.agents.programs import forget_programs

# Of the latest task, see `program_of`.
_program = ""


def clean_up(program: str) -> None:
    """Drop what only other programs need, and let the peak of the process's memory begin anew (on Linux).

    Without that, the memory of a cell would be told, and refused, with that of all before it.
    """
    global _program
    if program != _program:
        _program = program
        forget_programs()
        with contextlib.suppress(OSError, AttributeError):  # not Linux, or not with its usual library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes: the largest memory in use since `clean_up`, of the device or else of the process."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
