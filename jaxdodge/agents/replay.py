"""The replay: a ring buffer [time, env] of the last steps of all environments, in device memory.

A stored frame is the few numbers that an observation is made from. Each is stored once: the next
observation of a row is made from the rows up to the next one. So the end of an episode takes a row
of its own, with the true last observation. In it the environment restarts instead of acting.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


class Row(struct.PyTreeNode):
    """One step, or several with the same leading axes in all fields."""

    frame: Any
    """Stored frame of the observation before the action."""
    action: jax.Array
    """float32 (..., action_size)."""
    reward: jax.Array
    """float32 (...)."""
    terminated: jax.Array
    """bool (...): the action terminated the episode; what follows has no value."""
    ended: jax.Array
    """bool (...): the frame is the last of an episode; action and reward are meaningless."""


class FrameStack(struct.PyTreeNode):
    """What one observation is made from."""

    frames: Any
    """Stored frames of consecutive steps, leading axes (..., frame_stack), oldest first."""
    time: jax.Array
    """int32 (...): steps since the reset, capped at the stack; earlier frames are not valid."""
    previous_action: jax.Array
    """float32 (..., action_size): zeros at the first step of an episode."""


class Transition(struct.PyTreeNode):
    """From one observation to a later one of the same episode; leading axes (count,)."""

    stack: FrameStack
    action: jax.Array
    reward: jax.Array
    """float32: discounted sum of the rewards in between."""
    discount: jax.Array
    """float32: factor on the value of the next observation; 0 if the episode terminated."""
    next_stack: FrameStack


def empty_replay(length: int, num_envs: int, example: Row) -> Row:
    """A ring of `length` rows of all environments, from one row without leading axes."""
    return jax.tree.map(lambda leaf: jnp.zeros((length, num_envs, *leaf.shape), leaf.dtype), example)


def add(replay: Row, row: Row, step: jax.Array) -> Row:
    """Write the `step`-th step (from 0) of all environments, over the oldest in a full ring.

    Args:
        replay: donate it; otherwise the whole ring is copied.
        row: leading axis (num_envs,).
        step: int32, steps added before.
    """
    length = replay.reward.shape[0]
    return jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_index_in_dim(ring, new, step % length, 0), replay, row
    )


def sample(
    key: jax.Array, replay: Row, step: jax.Array, count: int, *, frame_stack: int, n_step: int, gamma: float
) -> Transition:
    """Sample transitions uniformly with replacement, from all that are complete.

    A sampled row that is the end of an episode is replaced by the next one, the first of the next
    episode. First steps are a little more likely therefore, but no outcome of a step is.

    Args:
        key: random key.
        replay: of all environments.
        step: int32, steps added so far; at least `rows_needed`. Or (num_envs,), those of each
            environment where they differ; then `rows_needed` of one are enough.
        count: transitions.
        frame_stack: frames of an observation.
        n_step: rewards of a transition, fewer at the end of an episode.
        gamma: discount per step.

    Returns:
        Transitions; the newest may be one step short of the newest row.
    """
    length, num_envs = replay.reward.shape
    past = max(frame_stack - 1, 1)
    key_time, key_env = jax.random.split(key)
    # Once rows have been overwritten, the past of the oldest ones is lost.
    oldest = jnp.where(step > length, step - length + past, 0)
    if step.ndim:
        ends = jnp.cumsum(jnp.maximum(step - n_step - 1 - oldest, 0), dtype=jnp.int32)
        index = jax.random.randint(key_time, (count,), 0, ends[-1], jnp.int32)
        env = jnp.searchsorted(ends, index, side="right").astype(jnp.int32)
        time = (step - n_step - 1)[env] - (ends[env] - index)
    else:
        time = jax.random.randint(key_time, (count,), oldest, step - n_step - 1, jnp.int32)
        env = jax.random.randint(key_env, (count,), 0, num_envs, jnp.int32)
    time = time + replay.ended[time % length, env]

    def take(ring: jax.Array, offsets: jax.Array) -> jax.Array:
        """(count, offsets, ...) at steps relative to `time`."""
        return ring[(time[:, None] + offsets) % length, env[:, None]]

    # Steps since the reset: not across the end of an episode, and not before the first row.
    before = -1 - jnp.arange(past, dtype=jnp.int32)
    unbroken = ~take(replay.ended, before) & (time[:, None] + before >= 0)
    age = jnp.cumprod(unbroken, axis=1, dtype=jnp.int32).sum(axis=1, dtype=jnp.int32)

    # Steps of the transition: at most up to the end of the episode.
    goes_on = (
        ~take(replay.ended, jnp.arange(1, n_step, dtype=jnp.int32))
        if n_step > 1
        else jnp.ones((count, 0), bool)
    )
    goes_on = jnp.concatenate([jnp.ones((count, 1), bool), goes_on], axis=1)
    taken = jnp.cumprod(goes_on, axis=1, dtype=jnp.int32)
    steps = taken.sum(axis=1, dtype=jnp.int32)
    number = jnp.arange(n_step, dtype=jnp.int32)
    rewards = take(replay.reward, number) * taken * jnp.float32(gamma) ** number
    last = time + steps - 1

    def stack(now: jax.Array, age: jax.Array) -> FrameStack:
        window = (now[:, None] + jnp.arange(1 - frame_stack, 1, dtype=jnp.int32)) % length
        previous = replay.action[(now - 1) % length, env]
        return FrameStack(
            frames=jax.tree.map(lambda ring: ring[window, env[:, None]], replay.frame),
            time=age,
            previous_action=jnp.where(age[:, None] > 0, previous, 0),
        )

    return Transition(
        stack=stack(time, age),
        action=replay.action[time % length, env],
        reward=rewards.sum(axis=1),
        discount=jnp.float32(gamma) ** steps
        * (1 - replay.terminated[last % length, env].astype(jnp.float32)),
        next_stack=stack(last + 1, age + steps),
    )
