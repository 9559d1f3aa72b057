"""The machine and the versions that a measurement depends on."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any


def hardware() -> dict[str, Any]:
    """Names of the machine's parts, and versions of the packages that decide speed and results."""
    import jax

    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        model = names[0] if names else model
    packages = ("jaxdodge", "jax", "flax", "optax", "gymnax")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        **{package: metadata.version(package) for package in packages},
        "python": platform.python_version(),
    }
