"""Evaluation: many episodes at once, and statistics of a policy from them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.evaluation.statistics import bootstrap_interval, interquartile_mean, wilson_interval


@struct.dataclass
class Episodes:
    """The outcome of every episode; leading axis (episodes,)."""

    returns: Any
    """float32: sum of rewards."""
    lengths: Any
    """int32: number of responses."""
    survived: Any
    """bool: truncated, not terminated."""

    def summary(self) -> dict[str, float]:
        """Statistics of the episodes; `_low` and `_high` are the ends of 95 % intervals.

        `mean`, `std`, `median` and `iqm` (interquartile mean, with `iqm_low` and `iqm_high`) of the
        returns; `survival`, the survival rate, with `survival_low` and `survival_high`; and
        `length`, the mean episode length.
        """
        returns, survived = np.asarray(self.returns, np.float64), np.asarray(self.survived)
        iqm_low, iqm_high = bootstrap_interval(returns, interquartile_mean)
        survival_low, survival_high = wilson_interval(int(survived.sum()), survived.size)
        return {
            "mean": float(returns.mean()),
            "std": float(returns.std()),
            "median": float(np.median(returns)),
            "iqm": float(interquartile_mean(returns)),
            "iqm_low": iqm_low,
            "iqm_high": iqm_high,
            "survival": float(survived.mean()),
            "survival_low": survival_low,
            "survival_high": survival_high,
            "length": float(np.mean(self.lengths)),
        }


@partial(jax.jit, static_argnames=("env", "policy", "episodes", "sampled", "draw_params"))
def evaluate(
    env: Any,
    policy: Callable[..., jax.Array],
    weights: Any,
    params: Any,
    key: jax.Array,
    episodes: int,
    sampled: bool = False,
    draw_params: Callable[[jax.Array, Any], Any] | None = None,
) -> Episodes:
    """Play the first episode of each of `episodes` environments to its end, all in parallel.

    Args:
        env: an environment with gymnax 1.0's interface.
        policy: from `weights` and observations (episodes, ...), and a key if `sampled`, to actions.
        weights: parameters of the policy.
        params: parameters of the environment.
        key: random key.
        episodes: number of episodes.
        sampled: whether the policy samples its actions, and so takes a key.
        draw_params: from a key and `params` to the parameters of one episode; None to use `params`.
    """
    key, key_reset = jax.random.split(key)
    keys, axis = jax.random.split(key_reset, episodes), None
    if draw_params is not None:
        params, axis = jax.vmap(draw_params, in_axes=(0, None))(keys, params), 0
    observation, state = jax.vmap(env.reset, in_axes=(0, axis))(keys, params)
    played = Episodes(
        jnp.zeros(episodes, jnp.float32), jnp.zeros(episodes, jnp.int32), jnp.zeros(episodes, bool)
    )

    def step(carry: Any) -> Any:
        key, observation, state, playing, played = carry
        key, key_step, key_action = jax.random.split(key, 3)
        action = policy(weights, observation, *((key_action,) if sampled else ()))
        observation, state, reward, terminated, truncated, _ = jax.vmap(env.step, in_axes=(0, 0, 0, axis))(
            jax.random.split(key_step, episodes), state, action, params
        )
        played = Episodes(
            returns=played.returns + jnp.where(playing, reward, 0),
            lengths=played.lengths + playing,
            survived=played.survived | (playing & truncated & ~terminated),
        )
        return key, observation, state, playing & ~(terminated | truncated), played

    carry = key, observation, state, jnp.ones(episodes, bool), played
    return jax.lax.while_loop(lambda carry: carry[3].any(), step, carry)[-1]
