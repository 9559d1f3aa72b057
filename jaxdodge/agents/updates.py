"""The updates of one step, of which every `policy_delay`-th includes the actor: two equal loops."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.agents.sac_agent import LearnerState, Metrics

# Updates between two of the actor's that are compiled one by one.
MOST_UNROLLED = 3

Update = Callable[[LearnerState, jax.Array, Any], tuple[LearnerState, Metrics]]
"""From a learner, a key and whether to update the actor; see `SACAgent.update`."""


def updates_by_condition(
    update: Update, policy_delay: int, learner: LearnerState, keys: jax.Array
) -> tuple[LearnerState, Metrics]:
    """An update per key; metrics (updates,). A condition decides about the actor."""

    def one(learner: LearnerState, inputs: tuple[jax.Array, jax.Array]) -> Any:
        index, key = inputs
        return update(learner, key, (index + 1) % policy_delay == 0)

    return jax.lax.scan(one, learner, (jnp.arange(len(keys), dtype=jnp.int32), keys))


def updates_unrolled(
    update: Update, policy_delay: int, learner: LearnerState, keys: jax.Array
) -> tuple[LearnerState, Metrics]:
    """The same in turns of `policy_delay` updates, of which the last includes the actor.

    There is no condition, and a condition's operands are not copied. `policy_delay` divides the
    number of keys.
    """

    def critics(learner: LearnerState, key: jax.Array) -> Any:
        return update(learner, key, False)

    def turn(learner: LearnerState, keys: jax.Array) -> Any:
        unroll = min(max(policy_delay - 1, 1), MOST_UNROLLED)
        learner, without = jax.lax.scan(critics, learner, keys[:-1], unroll=unroll)
        learner, last = update(learner, keys[-1], True)
        return learner, jax.tree.map(lambda some, one: jnp.append(some, one), without, last)

    learner, metrics = jax.lax.scan(turn, learner, keys.reshape(-1, policy_delay))
    return learner, jax.tree.map(jnp.ravel, metrics)
