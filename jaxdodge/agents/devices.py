"""One run on several devices: each has its share of the arenas, of their replay, and of every batch.

Networks and optimisers are the same on all of them. The program is that of one device; the compiler splits
it and adds what has to be exchanged (`jax.sharding`): the parts of a batch that lie elsewhere, and the sums
in means over a batch, gradients among them.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

AXIS = "arenas"
# Parts of a busy processor can be minutes apart, and XLA gives up after 40 s. A user's own flags come last.
PATIENT = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one run, each with as many of its devices."""

    devices: int = 1
    """Of all processes together."""
    processes: int = 1
    process: int = 0
    """The number of this one."""
    coordinator: str | None = None
    """HOST:PORT, an address of process 0 that the others reach."""

    def check(self, config: TrainConfig) -> None:
        """Refuse what cannot be split evenly; raises ConfigError."""
        if self.devices < 1:
            raise ConfigError(f"devices: invalid value {self.devices}; expected at least 1")
        if self.processes < 1 or self.devices % self.processes:
            raise ConfigError(
                f"processes: invalid value {self.processes}; expected a divisor of devices ({self.devices})"
            )
        if not 0 <= self.process < self.processes:
            raise ConfigError(f"process: invalid value {self.process}; expected 0 to {self.processes - 1}")
        if self.processes > 1 and self.coordinator is None:
            raise ConfigError("coordinator: missing; expected HOST:PORT of process 0, the same for all")
        for name in ("num_envs", "batch_size"):
            if getattr(config, name) % self.devices:
                raise ConfigError(
                    f"devices: invalid value {self.devices}; expected a divisor of "
                    f"{name} ({getattr(config, name)})"
                )

    def join(self) -> None:
        """Make the devices available, before JAX is used; waits for the other processes.

        Raises:
            ConfigError: there are too few devices, or the other processes do not come.
        """
        if self.devices > 1:
            os.environ["XLA_FLAGS"] = f"{PATIENT} {os.environ.get('XLA_FLAGS', '')}".strip()
            # Of a machine without accelerators; the others know how many devices they have.
            jax.config.update("jax_num_cpu_devices", self.devices // self.processes)
        if self.processes > 1:
            try:
                jax.distributed.initialize(self.coordinator, self.processes, self.process)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"coordinator: {self.coordinator}: {error_line(error)}") from None
        present = len(jax.devices())
        if self.devices > present or (self.processes > 1 and self.devices != present):
            accepted = f"1 to {present}" if self.processes == 1 else f"{present}, all that the processes have"
            raise ConfigError(f"devices: invalid value {self.devices}; expected {accepted}")


class Layout:
    """Which device has which part of a training's state.

    Args:
        devices: how many; all that there are, if there are several processes.
        seeds: whether there is a leading axis of independent runs, which all devices take part in.
    """

    def __init__(self, devices: int, seeds: bool):
        self.mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,), axis_types=(AxisType.Auto,))
        self._seeds = seeds
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        """The same on every device."""

    def state(self, kind: Any) -> Any:
        """Of the parts of a `TrainState`, which is `kind`."""
        arenas = self._split(0)
        return kind(
            learner=self.whole,
            replay=self._split(1),
            env_state=arenas,
            params=arenas,
            ended=arenas,
            key=self.whole,
        )

    def _split(self, axis: int) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*[None] * (axis + self._seeds), AXIS))

    def arena_by_arena(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of many arenas of which none depends on another: each device ends its own loops."""
        arenas = PartitionSpec(AXIS)
        return jax.shard_map(function, mesh=self.mesh, in_specs=arenas, out_specs=arenas, check_vma=False)

    def everywhere(self, drawn: Any) -> Any:
        """What was drawn from all arenas, on every device, so that places to draw from need not travel."""
        return jax.lax.with_sharding_constraint(drawn, self.whole)

    def batch(self, batch: Any) -> Any:
        """Split a batch."""
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, PartitionSpec(AXIS)))


def gathered(tree: Any, layout: Layout) -> Any:
    """The tree with all of it in every process; what one process has anyway stays as it is."""
    if jax.process_count() == 1:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=layout.whole)(tree)


def place(tree: Any, shardings: Any) -> Any:
    """Put a tree of arrays, the same in every process, where it belongs.

    Args:
        tree: arrays that this process has whole.
        shardings: of the leaves.
    """

    def one(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                one(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
            )
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree, shardings)


def agreed(interrupted: Callable[[], str | None]) -> Callable[[], str | None]:
    """Of several processes, all stop after the same epoch if any is asked to."""
    if jax.process_count() == 1:
        return interrupted

    def ask() -> str | None:
        reason = interrupted()
        anyone = multihost_utils.process_allgather(np.array(reason is not None)).any()
        return reason or ("another process" if anyone else None)

    return ask
