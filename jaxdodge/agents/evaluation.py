"""Deterministic evaluation: many episodes at once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Episodes:
    """The outcome of every episode; leading axis (episodes,)."""

    returns: Any
    """float32: sum of rewards."""
    lengths: Any
    """int32: responses."""
    survived: Any
    """bool: truncated, not terminated."""

    def summary(self) -> dict[str, float]:
        """Mean, standard deviation, survival rate and mean length."""
        return {
            "mean": float(np.mean(self.returns)),
            "std": float(np.std(self.returns)),
            "survival": float(np.mean(self.survived)),
            "length": float(np.mean(self.lengths)),
        }


@partial(jax.jit, static_argnames=("env", "policy", "episodes"))
def evaluate(
    env: Any,
    policy: Callable[[Any, Any], jax.Array],
    weights: Any,
    params: Any,
    key: jax.Array,
    episodes: int,
) -> Episodes:
    """Play `episodes` episodes side by side, the first one of each arena, to its end.

    Args:
        env: gymnax 1.0 contract.
        policy: from `weights` and observations (episodes, ...) to actions.
        weights: of the policy.
        params: of the environment, the same for all.
        key: random key.
        episodes: how many.
    """
    key, key_reset = jax.random.split(key)
    observation, state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_reset, episodes), params)
    played = Episodes(jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), jnp.zeros(episodes, bool))

    def step(carry: Any) -> Any:
        key, observation, state, playing, played = carry
        key, key_step = jax.random.split(key)
        observation, state, reward, terminated, truncated, _ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(key_step, episodes), state, policy(weights, observation), params
        )
        played = Episodes(
            returns=played.returns + jnp.where(playing, reward, 0),
            lengths=played.lengths + playing,
            survived=played.survived | (playing & truncated & ~terminated),
        )
        return key, observation, state, playing & ~(terminated | truncated), played

    carry = key, observation, state, jnp.ones(episodes, bool), played
    return jax.lax.while_loop(lambda carry: carry[3].any(), step, carry)[-1]
