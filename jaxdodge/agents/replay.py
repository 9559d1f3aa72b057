"""The replay: the last steps of all arenas, a ring of [time, arena] in device memory.

It holds entries, the few numbers that an observation is made from, and each of them once: the next
observation of a row is made from the rows up to the next one. An episode's end has a row of its own, which
holds its true last observation and in which the arena does nothing but start anew.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Row:
    """One step, or steps with the same leading axes everywhere."""

    entry: Any
    """What the observation before the action is made from."""
    action: jax.Array
    """float32 (..., action_size)."""
    reward: jax.Array
    """float32 (...)."""
    terminated: jax.Array
    """bool (...): the action ended the episode, whose end has no value."""
    ended: jax.Array
    """bool (...): the entry is the last of an episode; action and reward mean nothing."""


@struct.dataclass
class Stack:
    """What one observation is made from."""

    entries: Any
    """Of consecutive steps, leading axes (..., frame_stack), oldest first."""
    time: jax.Array
    """int32 (...): steps since the reset, but not more than were looked back; earlier entries are not the
    episode's."""
    previous_action: jax.Array
    """float32 (..., action_size): zeros at the episode's first step."""


@struct.dataclass
class Transition:
    """From one observation to a later one of the same episode; leading axes (count,)."""

    stack: Stack
    action: jax.Array
    reward: jax.Array
    """float32: discounted sum of the rewards in between."""
    discount: jax.Array
    """float32: of the value of the next observation; 0 if the episode terminated."""
    next_stack: Stack


def empty_replay(length: int, arenas: int, example: Row) -> Row:
    """A ring of `length` rows for `arenas` arenas, from one row without leading axes."""
    return jax.tree.map(lambda leaf: jnp.zeros((length, arenas, *leaf.shape), leaf.dtype), example)


def add(replay: Row, row: Row, step: jax.Array) -> Row:
    """The replay with the `step`-th step (from 0) of all arenas, in place of the oldest if it is full.

    Args:
        replay: donate it, or the whole ring is copied.
        row: leading axis (arenas,).
        step: int32, how many were added before.
    """
    length = replay.reward.shape[0]
    return jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_index_in_dim(ring, new, step % length, 0), replay, row
    )


def sample(
    key: jax.Array, replay: Row, step: jax.Array, count: int, *, frame_stack: int, n_step: int, gamma: float
) -> Transition:
    """Transitions drawn with replacement from all whole ones, of which the newest may wait for a step.

    Where the row drawn is an episode's end, the next one is taken, the first of the next episode. That
    favours first steps a little, but no outcome of a step over another.

    Args:
        key: random key.
        replay: of all arenas.
        step: int32, steps added so far; at least `rows_needed`.
        count: transitions.
        frame_stack: entries of an observation.
        n_step: rewards of a transition, fewer at an episode's end.
        gamma: discount per step.
    """
    length, arenas = replay.reward.shape
    past = max(frame_stack - 1, 1)
    key_time, key_arena = jax.random.split(key)
    # Once rows have been overwritten, the oldest ones have lost their past.
    oldest = jnp.where(step > length, step - length + past, 0)
    time = jax.random.randint(key_time, (count,), oldest, step - n_step - 1)
    arena = jax.random.randint(key_arena, (count,), 0, arenas)
    time = time + replay.ended[time % length, arena]

    def take(ring: jax.Array, offsets: jax.Array) -> jax.Array:
        """(count, offsets, ...) at steps relative to `time`."""
        return ring[(time[:, None] + offsets) % length, arena[:, None]]

    # Steps since the reset: unbroken by an episode's end, and not before the first row.
    before = -1 - jnp.arange(past)
    unbroken = ~take(replay.ended, before) & (time[:, None] + before >= 0)
    age = jnp.cumprod(unbroken, axis=1, dtype=jnp.int32).sum(axis=1)

    # Steps of the transition: up to the episode's end.
    goes_on = ~take(replay.ended, jnp.arange(1, n_step)) if n_step > 1 else jnp.ones((count, 0), bool)
    goes_on = jnp.concatenate([jnp.ones((count, 1), bool), goes_on], axis=1)
    taken = jnp.cumprod(goes_on, axis=1, dtype=jnp.int32)
    steps = taken.sum(axis=1)
    rewards = take(replay.reward, jnp.arange(n_step)) * taken * gamma ** jnp.arange(n_step)
    last = time + steps - 1

    def stack(now: jax.Array, age: jax.Array) -> Stack:
        window = (now[:, None] + jnp.arange(1 - frame_stack, 1)) % length
        previous = replay.action[(now - 1) % length, arena]
        return Stack(
            entries=jax.tree.map(lambda ring: ring[window, arena[:, None]], replay.entry),
            time=age,
            previous_action=jnp.where(age[:, None] > 0, previous, 0),
        )

    return Transition(
        stack=stack(time, age),
        action=replay.action[time % length, arena],
        reward=rewards.sum(axis=1),
        discount=gamma**steps * (1 - replay.terminated[last % length, arena].astype(jnp.float32)),
        next_stack=stack(last + 1, age + steps),
    )
