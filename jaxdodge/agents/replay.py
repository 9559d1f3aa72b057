"""The replay: the last transitions of all arenas, a ring of [time, arena] in device memory."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Transition:
    """One step, or a batch of steps with the same leading axes everywhere.

    The end of an episode is in the transition itself: `next_observation` is the true last observation,
    never the first one of the next episode.
    """

    observation: jax.Array
    """float32 (..., features): what the networks see."""
    action: jax.Array
    """float32 (..., action_size)."""
    reward: jax.Array
    """float32 (...)."""
    discount: jax.Array
    """float32 (...): 0 if the episode terminated, else 1; a truncated episode's end has a value."""
    next_observation: jax.Array
    """float32 (..., features)."""


@struct.dataclass
class Replay:
    """Ring of transitions."""

    transitions: Transition
    """Leading axes (time, arenas)."""
    steps: jax.Array
    """int32: steps added so far; the next one goes to row `steps` modulo the length."""


def empty_replay(steps: int, arenas: int, example: Transition) -> Replay:
    """A replay of `steps` rows for `arenas` arenas.

    Args:
        steps: rows.
        arenas: transitions per row.
        example: one transition, for shapes and dtypes.
    """
    transitions = jax.tree.map(lambda leaf: jnp.zeros((steps, arenas, *leaf.shape), leaf.dtype), example)
    return Replay(transitions, jnp.int32(0))


def add(replay: Replay, row: Transition) -> Replay:
    """The replay with one more step of all arenas, in place of the oldest if it is full.

    Args:
        replay: donate it, or the whole ring is copied.
        row: leading axis (arenas,).
    """
    length = replay.transitions.reward.shape[0]
    transitions = jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_index_in_dim(ring, new, replay.steps % length, 0),
        replay.transitions,
        row,
    )
    return Replay(transitions, replay.steps + 1)


def sample(key: jax.Array, replay: Replay, count: int) -> Transition:
    """Transitions drawn uniformly with replacement, leading axis (count,); needs one row at least."""
    length, arenas = replay.transitions.reward.shape
    key_time, key_arena = jax.random.split(key)
    time = jax.random.randint(key_time, (count,), 0, jnp.minimum(replay.steps, length))
    arena = jax.random.randint(key_arena, (count,), 0, arenas)
    return jax.tree.map(lambda ring: ring[time, arena], replay.transitions)
