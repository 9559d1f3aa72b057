"""One run on several devices: each has its share of environments, replay and batches.

The networks are replicated. The program is that of one device. The compiler splits it and adds the
communication (`jax.sharding`): of parts of a batch, and of
sums in means over a batch, such as gradients.
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

AXIS = "envs"
# Virtual CPU devices of a busy machine can be minutes apart, and XLA gives up after 40 s. A user's
# own flags come last and win.
COLLECTIVE_TIMEOUTS = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
    " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one run, each with the same number of devices."""

    devices: int = 1
    """Of all processes together."""
    processes: int = 1
    process: int = 0
    """The number of this one."""
    coordinator: str | None = None
    """HOST:PORT, an address of process 0 that the others reach."""

    def check(self, config: TrainConfig) -> None:
        """Raise ConfigError for what cannot be split evenly."""
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
        """Set up the devices, before JAX is used, and wait for the other processes.

        Raises:
            ConfigError: there are too few devices, or the other processes do not come.
        """
        if self.devices > 1:
            os.environ["XLA_FLAGS"] = f"{COLLECTIVE_TIMEOUTS} {os.environ.get('XLA_FLAGS', '')}".strip()
            # Without effect on a machine with accelerators.
            jax.config.update("jax_num_cpu_devices", self.devices // self.processes)
        if self.processes > 1:
            # It would replace the handler of SIGTERM.
            jax.config.update("jax_enable_preemption_service", False)
            try:
                jax.distributed.initialize(self.coordinator, self.processes, self.process)
            except (RuntimeError, ValueError) as error:
                raise ConfigError(f"coordinator: {self.coordinator}: {error_line(error)}") from None
        present = len(jax.devices())
        if self.devices > present or (self.processes > 1 and self.devices != present):
            expected = f"1 to {present}" if self.processes == 1 else f"{present}, all that the processes have"
            raise ConfigError(f"devices: invalid value {self.devices}; expected {expected}")


class Layout:
    """How arrays are laid out over devices.

    Args:
        devices: how many; all that there are, if there are several processes.
        seeds: whether arrays of a state have a leading axis of seeds, which is not split.
    """

    def __init__(self, devices: int, seeds: bool):
        self.mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,), axis_types=(AxisType.Auto,))
        self._seeds = seeds
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        """The same on every device."""

    def sharded(self, axis: int) -> NamedSharding:
        """Split along an axis of environments, which is counted without that of seeds."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * (axis + self._seeds), AXIS))

    def shard_map(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Map a function of independent environments: each device runs the loops of its own."""
        envs = PartitionSpec(AXIS)
        return jax.shard_map(function, mesh=self.mesh, in_specs=envs, out_specs=envs, check_vma=False)

    def replicate(self, sampled: Any) -> Any:
        """Replicate what was sampled from all environments; saves exchanging the indices."""
        return jax.lax.with_sharding_constraint(sampled, self.replicated)

    def shard_batch(self, batch: Any) -> Any:
        """Split a batch along its leading axis."""
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, PartitionSpec(AXIS)))


def gather(tree: Any, layout: Layout) -> Any:
    """Replicate a tree over all processes; without effect on a single one."""
    if jax.process_count() == 1:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=layout.replicated)(tree)


def device_put(tree: Any, shardings: Any) -> Any:
    """Distribute a tree of arrays, of which every process holds all, also over several processes.

    Args:
        tree: arrays, typed keys included.
        shardings: of the leaves.
    """

    def put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf)
            )
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree, shardings)


def shared_interrupt(interrupted: Callable[[], str | None]) -> Callable[[], str | None]:
    """`interrupted` of all processes together: all stop after the same epoch if any is asked to."""
    if jax.process_count() == 1:
        return interrupted

    def ask() -> str | None:
        reason = interrupted()
        anyone = multihost_utils.process_allgather(np.array(reason is not None)).any()
        return reason or ("another process" if anyone else None)

    return ask
