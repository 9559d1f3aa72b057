"""What soft actor-critic learns, and one update of it.

Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905), where the
equations named below are.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxdodge.agents.networks import Actor, ImageEncoder, critic_ensemble, sample_action
from jaxdodge.agents.normalization import Statistics, no_statistics, normalize
from jaxdodge.agents.train_config import TrainConfig

# The averaged policy is one over this part of the updates so far, while those are fewer than configured.
# With the configured share alone it would lag half of all learning behind at first.
YOUNGEST_PART = 0.1
Params = Any
Metrics = dict[str, jax.Array]


@struct.dataclass
class Policy:
    """All it takes to act."""

    encoder: Params
    """Of images; empty for vectors."""
    actor: Params
    statistics: Statistics | None
    """Of the features of vectors, with `normalize_observations`."""


@struct.dataclass
class Learner:
    """What updates change."""

    policy: Policy
    average_policy: Policy
    """Exponential average of `policy`, which is what gets evaluated and deployed."""
    critics: Params
    target_critics: Params
    log_temperature: jax.Array
    """float32: logarithm of the entropy's weight."""
    encoder_optimizer: optax.OptState
    actor_optimizer: optax.OptState
    critics_optimizer: optax.OptState
    temperature_optimizer: optax.OptState
    updates: jax.Array
    """int32: updates so far."""


@struct.dataclass
class Batch:
    """Transitions as the networks take them, leading axis (batch,)."""

    inputs: Any
    """Of the actor: float32 features, or a dictionary with uint8 images."""
    critic_inputs: Any
    """None where the critics see what the actor sees."""
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_inputs: Any
    next_critic_inputs: Any


class Updates:
    """Losses and updates for a configuration.

    An image's encoder learns from the critics' loss alone, and encodes the next observation too; only the
    critics' heads have targets, as in DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645). It learns from the
    actor's loss if the critics see the state instead.

    Args:
        config: of the training.
        action_size: components of an action.
        total: updates of the whole run, over which a linear learning rate falls to 0.
    """

    def __init__(self, config: TrainConfig, action_size: int, total: int):
        self.config = config
        self.action_size = action_size
        dtype = jnp.dtype(config.precision)
        self.encoder: Any = ImageEncoder(dtype)
        self.actor: Any = Actor(config.net_arch, action_size, dtype)
        self.critics: Any = critic_ensemble(config.net_arch, dtype)
        self.critics_optimizer = self._optimizer(total)
        self.actor_optimizer = self._optimizer(total // config.policy_delay)
        self.target_entropy = config.target_entropy * action_size
        self.temperature_start, self.temperature_learned = config.temperature()

    def _optimizer(self, total: int) -> optax.GradientTransformation:
        """Of something that has so many updates in the whole run."""
        rate = self.config.learning_rate
        # With steps of one size to the end the return would swing.
        linear = self.config.learning_rate_schedule == "linear"
        return optax.adam(optax.linear_schedule(rate, 0, total) if linear else rate)

    def init_policy(self, key: jax.Array, inputs: Any) -> Policy:
        """Before the first update; inputs: of one observation."""
        key_encoder, key_actor = jax.random.split(key)
        images = isinstance(inputs, dict)
        policy = Policy(
            encoder=self.encoder.init(key_encoder, inputs["image"]) if images else {},
            actor={},
            statistics=no_statistics(len(inputs)) if self.config.normalize_observations else None,
        )
        actor = self.actor.init(key_actor, self.encode(policy, policy.encoder, inputs))
        return dataclasses.replace(policy, actor=actor)

    def init(self, key: jax.Array, inputs: Any, critic_inputs: Any) -> Learner:
        """Before the first update; see `Batch` for the inputs, here of one observation."""
        key_policy, key_critics = jax.random.split(key)
        policy = self.init_policy(key_policy, inputs)
        seen = self.encode(policy, policy.encoder, inputs) if critic_inputs is None else critic_inputs
        critics = self.critics.init(key_critics, seen, jnp.zeros(self.action_size))
        log_temperature = jnp.log(jnp.float32(self.temperature_start))
        return Learner(
            policy=policy,
            # Copies, because a buffer can be donated only once.
            average_policy=jax.tree.map(jnp.copy, policy),
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics),
            log_temperature=log_temperature,
            encoder_optimizer=self.critics_optimizer.init(policy.encoder),
            actor_optimizer=self.actor_optimizer.init(policy.actor),
            critics_optimizer=self.critics_optimizer.init(critics),
            temperature_optimizer=self.actor_optimizer.init(log_temperature),
            updates=jnp.int32(0),
        )

    def encode(self, policy: Policy, encoder: Params, inputs: Any) -> Any:
        """What the actor takes of its inputs, batched or not; `encoder` apart, to be differentiated."""
        if isinstance(inputs, dict):
            return inputs | {"image": self.encoder.apply(encoder, inputs["image"])}
        return inputs if policy.statistics is None else normalize(policy.statistics, inputs)

    def distribution(self, policy: Policy, inputs: Any) -> tuple[jax.Array, jax.Array]:
        """Mean and logarithm of the standard deviation, of the action before its tanh."""
        return self.actor.apply(policy.actor, self.encode(policy, policy.encoder, inputs))

    def critics_loss(
        self, critics: Params, encoder: Params, learner: Learner, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        """Squared Bellman error of all critics, equations 5 and 6; mean value, and what the actor sees."""
        config, policy = self.config, learner.policy
        next_seen = self.encode(policy, policy.encoder, batch.next_inputs)
        next_action, log_density = sample_action(key, *self.actor.apply(policy.actor, next_seen))
        next_known = next_seen if batch.critic_inputs is None else batch.next_critic_inputs
        next_values = self.critics.apply(learner.target_critics, next_known, next_action)
        next_value = next_values.min(axis=0) - jnp.exp(learner.log_temperature) * log_density
        target = jax.lax.stop_gradient(config.reward_scale * batch.reward + batch.discount * next_value)
        seen = self.encode(policy, encoder, batch.inputs)
        known = seen if batch.critic_inputs is None else batch.critic_inputs
        values = self.critics.apply(critics, known, batch.action)
        loss = 0.5 * jnp.mean((values - target) ** 2, axis=-1).sum()
        return loss, (values.mean(), jax.lax.stop_gradient(seen))

    def actor_loss(
        self, actor: Params, encoder: Params, learner: Learner, batch: Batch, seen: Any, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Equation 9; and the policy's entropy. `seen`: by the actor, where critics train the encoder."""
        known = batch.critic_inputs
        if known is None:
            known = seen
        else:
            seen = self.encode(learner.policy, encoder, batch.inputs)
        action, log_density = sample_action(key, *self.actor.apply(actor, seen))
        value = self.critics.apply(learner.critics, known, action).min(axis=0)
        temperature = jnp.exp(learner.log_temperature)
        return jnp.mean(temperature * log_density - value), -log_density.mean()

    def temperature_loss(self, log_temperature: jax.Array, entropy: jax.Array) -> jax.Array:
        """Equation 18: the temperature rises while the policy's entropy is below its target."""
        return jnp.exp(log_temperature) * jax.lax.stop_gradient(entropy - self.target_entropy)

    def update(self, learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, Metrics]:
        """One step of everything: `update_critics`, then `update_actor`."""
        key_critics, key_actor = jax.random.split(key)
        learner, seen, critics_metrics = self.update_critics(learner, batch, key_critics)
        learner, actor_metrics = self.update_actor(learner, batch, seen, key_actor)
        return learner, critics_metrics | actor_metrics

    def update_critics(self, learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, Any, Metrics]:
        """One step of critics and target critics, and of the encoder where it learns from them.

        Returns:
            The learner, what the actor saw in the batch, and metrics.
        """
        (loss, (value, seen)), (gradient, encoder_gradient) = jax.value_and_grad(
            self.critics_loss, argnums=(0, 1), has_aux=True
        )(learner.critics, learner.policy.encoder, learner, batch, key)
        critics, optimizer = _descend(
            self.critics_optimizer, gradient, learner.critics_optimizer, learner.critics
        )
        if batch.critic_inputs is None:
            learner = _update_encoder(self.critics_optimizer, learner, encoder_gradient)
        learner = dataclasses.replace(
            learner,
            critics=critics,
            critics_optimizer=optimizer,
            target_critics=optax.incremental_update(critics, learner.target_critics, self.config.tau),
            updates=learner.updates + 1,
        )
        return learner, seen, {"critics_loss": loss, "value": value}

    def update_actor(
        self, learner: Learner, batch: Batch, seen: Any, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """One step of actor, temperature and averaged policy, and of the encoder where it learns from it."""
        (loss, entropy), (gradient, encoder_gradient) = jax.value_and_grad(
            self.actor_loss, argnums=(0, 1), has_aux=True
        )(learner.policy.actor, learner.policy.encoder, learner, batch, seen, key)
        actor, optimizer = _descend(
            self.actor_optimizer, gradient, learner.actor_optimizer, learner.policy.actor
        )
        if batch.critic_inputs is not None:
            learner = _update_encoder(self.actor_optimizer, learner, encoder_gradient)
        if self.temperature_learned:
            gradient = jax.grad(self.temperature_loss)(learner.log_temperature, entropy)
            log_temperature, temperature_optimizer = _descend(
                self.actor_optimizer, gradient, learner.temperature_optimizer, learner.log_temperature
            )
            learner = dataclasses.replace(
                learner, log_temperature=log_temperature, temperature_optimizer=temperature_optimizer
            )
        policy = dataclasses.replace(learner.policy, actor=actor)
        average = optax.incremental_update(policy, learner.average_policy, self._share(learner.updates))
        learner = dataclasses.replace(
            learner,
            policy=policy,
            average_policy=dataclasses.replace(average, statistics=policy.statistics),
            actor_optimizer=optimizer,
        )
        temperature = jnp.exp(learner.log_temperature)
        return learner, {"actor_loss": loss, "entropy": entropy, "temperature": temperature}

    def _share(self, updates: jax.Array) -> jax.Array:
        """Of the policy in the averaged one."""
        recent = 1 + YOUNGEST_PART * updates / self.config.policy_delay
        return jnp.maximum(self.config.policy_averaging, 1 / recent)


def _update_encoder(optimizer: optax.GradientTransformation, learner: Learner, gradient: Params) -> Learner:
    encoder, state = _descend(optimizer, gradient, learner.encoder_optimizer, learner.policy.encoder)
    policy = dataclasses.replace(learner.policy, encoder=encoder)
    return dataclasses.replace(learner, policy=policy, encoder_optimizer=state)


def _descend(
    optimizer: optax.GradientTransformation, gradient: Params, state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    changes, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, changes), state
