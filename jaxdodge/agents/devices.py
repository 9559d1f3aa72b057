"""One run on several devices: each has its share of environments, replay and batches.

The networks are replicated. The program is that of one device. The compiler splits it and adds the
communication (`jax.sharding`): of parts of a batch, and of
sums in means over a batch, such as gradients.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "envs"


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
