"""The losses of soft actor-critic, as pure functions of parameters, a batch and a key.

Source of all equations: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"
(arXiv 1812.05905).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.agents.networks import Params, SACNetworks, sample_action


class Batch(struct.PyTreeNode):
    """Transitions, leading axis (batch,).

    The agent takes observations as `SACNetworks.encode` does, the losses take them encoded. Where
    the critics observe what the actor observes, both observations are the same arrays.
    """

    actor_obs: Any
    critic_obs: Any
    action: jax.Array
    """float32 (batch, action_size)."""
    reward: jax.Array
    """float32 (batch,): discounted sum of the rewards from one observation to the next."""
    discount: jax.Array
    """float32 (batch,): factor on the value of the next observation; 0 after a termination."""
    next_actor_obs: Any
    next_critic_obs: Any


def critic_loss(
    critic_params: Params,
    target_critic_params: Params,
    actor_params: Params,
    alpha: jax.Array,
    batch: Batch,
    key: jax.Array,
    networks: SACNetworks,
    reward_scale: float,
) -> tuple[jax.Array, jax.Array]:
    """Soft Bellman error, equations 5 and 6.

    J_Q = E[1/2 (Q(s, a) - y)^2], summed over the critics, with the target
    y = reward_scale r + discount (min Q_target(s', a') - alpha log pi(a' | s')), a' ~ pi(. | s').

    Args:
        critic_params, target_critic_params: of the critic ensemble.
        actor_params: of the actor.
        alpha: temperature, float32 ().
        batch: with encoded observations.
        key: random key of the next action.
        networks: the modules that the parameters belong to.
        reward_scale: factor on the rewards.

    Returns:
        The loss, float32 (), and the mean value of the batch.
    """
    chex.assert_rank([batch.action, batch.reward, batch.discount], [2, 1, 1])
    next_dist = networks.actor.apply(actor_params, batch.next_actor_obs)
    next_action, next_log_prob = sample_action(key, *next_dist)
    next_values = networks.critics.apply(target_critic_params, batch.next_critic_obs, next_action)
    next_value = next_values.min(axis=0) - alpha * next_log_prob
    target = jax.lax.stop_gradient(reward_scale * batch.reward + batch.discount * next_value)
    values = networks.critics.apply(critic_params, batch.critic_obs, batch.action)
    chex.assert_equal_shape([*values, target])
    return 0.5 * jnp.mean((values - target) ** 2, axis=-1).sum(), values.mean()


def actor_loss(
    actor_params: Params,
    critic_params: Params,
    alpha: jax.Array,
    batch: Batch,
    key: jax.Array,
    networks: SACNetworks,
) -> tuple[jax.Array, jax.Array]:
    """Policy improvement, equation 9: J_pi = E[alpha log pi(a | s) - min Q(s, a)], a ~ pi(. | s).

    Args:
        actor_params: of the actor.
        critic_params: of the critic ensemble.
        alpha: temperature, float32 ().
        batch: with encoded observations; only the current ones are used.
        key: random key of the action.
        networks: the modules that the parameters belong to.

    Returns:
        The loss, float32 (), and the entropy of the policy, estimated from the same actions.
    """
    action, log_prob = sample_action(key, *networks.actor.apply(actor_params, batch.actor_obs))
    value = networks.critics.apply(critic_params, batch.critic_obs, action).min(axis=0)
    chex.assert_equal_shape([log_prob, value])
    return jnp.mean(alpha * log_prob - value), -log_prob.mean()


def alpha_loss(log_alpha: jax.Array, entropy: jax.Array, target_entropy: float) -> jax.Array:
    """Loss of the temperature, equation 18: J = alpha (H(pi) - target_entropy).

    alpha rises while the entropy is below its target. The gradient is taken of log_alpha, so that
    alpha stays positive.

    Args:
        log_alpha: float32 ().
        entropy: of the policy, float32 ().
        target_entropy: of the whole action.
    """
    chex.assert_rank([log_alpha, entropy], 0)
    return jnp.exp(log_alpha) * jax.lax.stop_gradient(entropy - target_entropy)
