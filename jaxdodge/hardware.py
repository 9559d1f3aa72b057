"""The machine: what a measurement depends on, what is kept compiled, and freed memory."""

import contextlib
import ctypes
import hashlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
# Of what is kept compiled; a training takes about 10 MB.
CACHE_BYTES = 2_000_000_000


def processor() -> str:
    """The name of the processor, as precise as the system tells it."""
    if CPUINFO.exists():
        names = re.findall(r"model name\s*: (.*)", CPUINFO.read_text())
        if names:
            return names[0]
    return platform.processor()


def keep_compiled() -> None:
    """Have JAX keep what it compiles for the processes to come, in the user's folder for caches.

    It is to be called before JAX is imported. JAX_COMPILATION_CACHE_DIR says another folder, and
    where none can be written nothing is kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    # Folders of users are shared between machines, and what is compiled for one can crash another.
    flags = re.findall(r"flags\s*: .*", CPUINFO.read_text())[:1] if CPUINFO.exists() else []
    machine = hashlib.sha256("".join([processor(), *flags]).encode()).hexdigest()[:16]
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(caches, "jaxdodge", machine)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}"
            os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", f"{CACHE_BYTES}")


def return_freed_memory() -> None:
    """Return freed memory to the system.

    glibc would keep what XLA's compiler and evaluations have freed: more than half a gigabyte.
    """
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def hardware() -> dict[str, Any]:
    """Names of the machine's parts, and versions of the packages that decide speed and results."""
    import jax

    packages = ("jaxdodge", "jax", "flax", "optax", "gymnax")
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        **{package: metadata.version(package) for package in packages},
        "python": platform.python_version(),
    }
