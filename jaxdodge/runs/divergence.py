"""Detects quantities of a training that are no longer finite."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.sac_agent import LearnerState


class DivergedError(Exception):
    """A quantity is no longer finite."""


def first_not_finite(metrics: dict[str, np.ndarray], learner: LearnerState) -> tuple[int, str, int] | None:
    """Step, name and seed of the first quantity that is not finite; None if all are.

    Args:
        metrics: of an epoch, each (seeds, steps).
        learner: the state after the epoch.
    """
    wrong = [
        (int(step), name, int(seed))
        for name, values in metrics.items()
        for seed, step in np.argwhere(~np.isfinite(values))
    ]
    seeds, steps = next(iter(metrics.values())).shape
    # The losses of the last update are computed before it changes the networks.
    wrong += [
        (steps - 1, name, int(seed))
        for name, finite in _all_finite(learner, seeds).items()
        for seed in np.flatnonzero(~np.asarray(finite))
    ]
    return min(wrong, default=None)


@functools.partial(jax.jit, static_argnames="seeds")
def _all_finite(learner: LearnerState, seeds: int) -> dict[str, jax.Array]:
    """Whether each field of a learner is finite, bool (seeds,) by name."""

    def finite(leaf: jax.Array) -> jax.Array:
        return jnp.isfinite(leaf.reshape(seeds, -1)).all(axis=1)

    parts = {
        field.name: jax.tree.leaves(getattr(learner, field.name)) for field in dataclasses.fields(learner)
    }
    return {
        name: jnp.all(jnp.stack([*map(finite, leaves)]), axis=0) for name, leaves in parts.items() if leaves
    }
