"""The updates of one step, of which every `policy_delay`-th includes the actor: two equal loops."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.agents.sac_agent import LearnerState, Metrics

# Updates between two of the actor's that are compiled one by one.
MOST_UNROLLED = 3
# Turns whose transitions are drawn at once.
MOST_TURNS_DRAWN = 32

Draw = Callable[[jax.Array], Any]
"""From a key to what one update learns from."""
Update = Callable[[LearnerState, Any, Any], tuple[LearnerState, Metrics]]
"""From a learner, what was drawn, and whether to update the actor; see `SACAgent.update`."""


def updates_by_condition(
    update: Update, draw: Draw, policy_delay: int, learner: LearnerState, keys: jax.Array
) -> tuple[LearnerState, Metrics]:
    """An update per key; metrics (updates,). A condition decides about the actor."""

    def one(learner: LearnerState, inputs: tuple[jax.Array, jax.Array]) -> Any:
        index, key = inputs
        return update(learner, draw(key), (index + 1) % policy_delay == 0)

    return jax.lax.scan(one, learner, (jnp.arange(len(keys), dtype=jnp.int32), keys))


def updates_unrolled(
    update: Update, draw: Draw, policy_delay: int, learner: LearnerState, keys: jax.Array
) -> tuple[LearnerState, Metrics]:
    """The same in turns of `policy_delay` updates, of which the last includes the actor.

    There is no condition, and a condition's operands are not copied. Many turns draw at once.
    `policy_delay` divides the number of keys.
    """

    structure: Any = jax.tree.structure(learner)
    names = sorted(jax.eval_shape(update, learner, jax.eval_shape(draw, keys[0]), True)[1])

    def pack(learner: LearnerState) -> tuple[list[jax.Array], jax.Array]:
        """The arrays, and all counters in one: each would take a kernel of its own."""
        leaves = jax.tree.leaves(learner)
        counters = [leaf for leaf in leaves if _counts(leaf)]
        return [leaf for leaf in leaves if not _counts(leaf)], jnp.stack(counters)

    def unpack(packed: tuple[list[jax.Array], jax.Array]) -> LearnerState:
        arrays, counters = iter(packed[0]), iter(packed[1])
        counting = map(_counts, jax.tree.leaves(learner))
        return structure.unflatten([next(counters if counts else arrays) for counts in counting])

    def critics(learner: LearnerState, drawn: Any) -> Any:
        return update(learner, drawn, False)

    def turn(packed: Any, drawn: Any) -> Any:
        unroll = min(max(policy_delay - 1, 1), MOST_UNROLLED)
        without = jax.tree.map(lambda leaf: leaf[:-1], drawn)
        learner, metrics = jax.lax.scan(critics, unpack(packed), without, unroll=unroll)
        learner, last = update(learner, jax.tree.map(lambda leaf: leaf[-1], drawn), True)
        return pack(learner), jnp.stack([jnp.append(metrics[name], last[name]) for name in names])

    def turns(packed: Any, keys: jax.Array) -> Any:
        return jax.lax.scan(turn, packed, jax.vmap(jax.vmap(draw))(keys))

    keys = keys.reshape(-1, policy_delay)
    keys = keys.reshape(-1, math.gcd(len(keys), MOST_TURNS_DRAWN), policy_delay)
    packed, metrics = jax.lax.scan(turns, pack(learner), keys)
    return unpack(packed), dict(zip(names, jnp.moveaxis(metrics, -2, 0).reshape(len(names), -1), strict=True))


def _counts(leaf: jax.Array) -> bool:
    return leaf.dtype == jnp.int32 and leaf.ndim == 0
