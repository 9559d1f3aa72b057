"""How much memory a run needs, estimated before it is allocated."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil

from jaxdodge.agents.train_config import TrainConfig, rows_needed
from jaxdodge.agents.trainer import TrainingState
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.hardware import return_freed_memory

# A cgroup without a limit reports a number near 2**63.
NO_LIMIT = 2**60
# Copies of the state while a checkpoint is written.
CHECKPOINT_COPIES = 2
LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of a run in bytes, on the device that trains."""

    process: int
    """Used by the process before the run, for programs and libraries; 0 on a GPU."""
    replay: int
    other_state: int
    """Networks, optimizers and environments."""
    epoch: int
    """Temporary memory of an epoch."""
    copies: int
    """Copies of the state while a checkpoint is written; 0 on a GPU: they are on the host."""
    available: int
    """Available on the device, including what the process already uses."""

    @property
    def working(self) -> int:
        return max(self.epoch, self.copies * (self.replay + self.other_state))

    @property
    def total(self) -> int:
        return self.process + self.replay + self.other_state + self.working

    @property
    def largest_replay(self) -> int:
        """The largest replay that fits together with everything else; negative if none does."""
        room = self.available - self.process
        return min(room - self.epoch, room // (1 + self.copies)) - self.other_state

    def __str__(self) -> str:
        return (
            f"memory: {_megabytes(self.total)} of {_megabytes(self.available)} available (replay "
            f"{_megabytes(self.replay)}, networks and environments {_megabytes(self.other_state)}, "
            f"work {_megabytes(self.working)}, process {_megabytes(self.process)})"
        )


def estimate(state: TrainingState, epoch: Any = None, devices: int = 1) -> Memory:
    """The memory that a run needs, on one accelerator, or on the host if there is none.

    Memory that the process has freed is returned to the system first.

    Args:
        state: shapes and dtypes of the training state.
        epoch: the compiled epoch; without it, its temporary memory is not counted.
        devices: number of devices that share the state.
    """
    on_host = jax.default_backend() == "cpu"
    # Virtual CPU devices share the memory of the host.
    sharing = len(jax.local_devices()) if on_host and devices > 1 else 1
    replay, networks = _bytes(state.replay), _bytes([state.learner, state.key])
    envs = (_bytes(state) - replay - networks) * sharing // devices
    replay, networks = replay * sharing // devices, networks * sharing
    return_freed_memory()
    process = psutil.Process().memory_info().rss if on_host else 0
    return Memory(
        process=process,
        replay=replay,
        other_state=networks + envs,
        epoch=epoch.memory_analysis().temp_size_in_bytes * sharing if epoch else 0,
        copies=CHECKPOINT_COPIES if on_host else 0,
        available=process + _available() if on_host else _device_limit(),
    )


class TooLargeError(ConfigError):
    """A run that does not fit into memory."""


def check_fits(memory: Memory, game: GameConfig, config: TrainConfig) -> None:
    """Raises TooLargeError if a run does not fit, with a buffer size that would."""
    if memory.total <= memory.available:
        return
    rows = config.buffer_size // config.num_envs
    fitting = rows * memory.largest_replay // memory.replay * config.num_envs
    smallest = rows_needed(game.frame_stack, config.n_step) * config.num_envs
    advice = f"buffer_size {fitting} would fit" if fitting >= smallest else "fewer num_envs would take less"
    raise TooLargeError(f"buffer_size: invalid value {config.buffer_size}; {memory}; {advice}")


def _bytes(tree: Any) -> int:
    """Bytes of arrays or of their shapes; a typed key counts 8 bytes."""
    leaves = jax.tree.leaves(tree)
    keys = [leaf for leaf in leaves if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    numbers = [leaf for leaf in leaves if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in numbers) + 8 * sum(
        leaf.size for leaf in keys
    )


def _available() -> int:
    """Bytes of host memory that are still free, also within a container's limit."""
    available = psutil.virtual_memory().available
    for path in LIMITS:
        text = path.read_text().strip() if path.is_file() and os.access(path, os.R_OK) else "max"
        if text.isdigit() and int(text) < NO_LIMIT:
            available = min(available, int(text) - psutil.Process().memory_info().rss)
    return available


def _device_limit() -> int:
    statistics = jax.devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit", NO_LIMIT)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
