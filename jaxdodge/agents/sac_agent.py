"""Soft actor-critic (SAC): the state of the learner, and one update of it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxdodge.agents.losses import Batch, actor_loss, alpha_loss, critic_loss
from jaxdodge.agents.networks import Params, Statistics, init_statistics, make_networks
from jaxdodge.agents.schedules import adam
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.sim import kernel

# The EMA policy covers at most this part of the updates so far. With the configured rate alone it
# would lag half of all learning behind at first.
EMA_MAX_PART = 0.1
Metrics = dict[str, jax.Array]


class PolicyParams(struct.PyTreeNode):
    """Everything a policy needs to act; the content of a saved policy."""

    encoder: Params
    """Of images; empty for vectors."""
    actor: Params
    statistics: Statistics | None
    """Of vectors; None without `normalize_observations`."""


class LearnerState(struct.PyTreeNode):
    """Everything that an update changes."""

    policy: PolicyParams
    ema_policy: PolicyParams
    """Exponential moving average (EMA) of `policy`; this one is evaluated and saved."""
    critic_params: Params
    target_critic_params: Params
    log_alpha: jax.Array
    """float32 (): logarithm of the temperature."""
    encoder_opt_state: optax.OptState
    actor_opt_state: optax.OptState
    critic_opt_state: optax.OptState
    alpha_opt_state: optax.OptState
    updates: jax.Array
    """int32 (): updates so far; it stops at the largest int32."""


class SACAgent:
    """SAC with twin critics, a learned or fixed temperature, and an EMA of the policy.

    The image encoder learns from one loss, `encoder_learns_from`: that of the critics, whose
    targets use the same encoder, as in DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645); or that of
    the actor, where the critics are privileged and observe no image.

    Args:
        config: of the training.
        action_size: components of an action.
        total_updates: updates of the whole run, over which a linear learning rate falls to 0.
    """

    def __init__(self, config: TrainConfig, action_size: int, total_updates: int):
        self.config = config
        self.action_size = action_size
        self.networks = make_networks(config, action_size)
        self.target_entropy = config.target_entropy * action_size
        self.critic_optimizer = self._optimizer(total_updates)
        self.actor_optimizer = self._optimizer(total_updates // config.policy_delay)
        self.same_observation = config.critic_observation == "same"
        self.encoder_learns_from = "critics" if self.same_observation else "actor"
        self.encoder_optimizer = (
            self.critic_optimizer if self.encoder_learns_from == "critics" else self.actor_optimizer
        )

    def _optimizer(self, updates: int) -> optax.GradientTransformation:
        config = self.config
        return adam(config.learning_rate, config.learning_rate_schedule == "linear", updates)

    def init_policy(self, key: jax.Array, actor_obs: Any) -> PolicyParams:
        """A policy before the first update.

        Args:
            key: random key.
            actor_obs: one observation, without a batch axis.
        """
        key_encoder, key_actor = jax.random.split(key)
        image = isinstance(actor_obs, dict)
        normalized = self.config.normalize_observations
        encoder = self.networks.encoder.init(key_encoder, actor_obs["image"]) if image else {}
        statistics = init_statistics(len(actor_obs)) if normalized else None
        features = self.networks.encode(encoder, statistics, actor_obs)
        return PolicyParams(encoder, self.networks.actor.init(key_actor, features), statistics)

    def init(self, key: jax.Array, actor_obs: Any, critic_obs: Any) -> LearnerState:
        """The state before the first update; observations as `init_policy` takes them."""
        key_policy, key_critics = jax.random.split(key)
        policy = self.init_policy(key_policy, actor_obs)
        features = self.networks.encode(policy.encoder, policy.statistics, critic_obs)
        critic_params = self.networks.critics.init(
            key_critics, features, jnp.zeros(self.action_size, jnp.float32)
        )
        log_alpha = jnp.log(jnp.float32(self.config.initial_alpha))
        return LearnerState(
            policy=policy,
            # Copies, because a buffer can be donated only once.
            ema_policy=jax.tree.map(jnp.copy, policy),
            critic_params=critic_params,
            target_critic_params=jax.tree.map(jnp.copy, critic_params),
            log_alpha=log_alpha,
            encoder_opt_state=self.encoder_optimizer.init(policy.encoder),
            actor_opt_state=self.actor_optimizer.init(policy.actor),
            critic_opt_state=self.critic_optimizer.init(critic_params),
            alpha_opt_state=self.actor_optimizer.init(log_alpha),
            updates=jnp.int32(0),
        )

    def distribution(self, policy: PolicyParams, actor_obs: Any) -> tuple[jax.Array, jax.Array]:
        """Mean and log std of the action before its tanh; observations batched or not."""
        features = self.networks.encode(policy.encoder, policy.statistics, actor_obs)
        return self.networks.actor.apply(policy.actor, features)

    def update(
        self,
        state: LearnerState,
        batch: Batch,
        keys: Sequence[jax.Array],
        update_actor: jax.Array | bool = True,
    ) -> tuple[LearnerState, Metrics]:
        """One update: the critics, and the actor and temperature where `update_actor` holds.

        Args:
            state: before.
            batch: of observations, not encoded.
            keys: random keys of the critics' and of the actor's loss.
            update_actor: bool (), not vmapped, see `update_if`; or a constant.

        Returns:
            The state, and metrics. Those of the actor are 0 where it is not updated, and else
            multiplied by `policy_delay`, so that means over updates are right.
        """
        state, encoded, critic_metrics = self.update_critics(state, batch, keys[0])
        state, actor_metrics = update_if(
            update_actor, lambda state: self.update_actor(state, batch, encoded, keys[1]), state
        )
        delay = self.config.policy_delay
        return state, critic_metrics | {name: delay * value for name, value in actor_metrics.items()}

    def update_critics(
        self, state: LearnerState, batch: Batch, key: jax.Array
    ) -> tuple[LearnerState, Batch, Metrics]:
        """Update the critics and their targets, and the encoder where it learns from them.

        Returns:
            The state, the batch encoded by the encoder before this update, and metrics.
        """
        policy, alpha = state.policy, jnp.exp(state.log_alpha)

        def loss(critic_params: Params, encoder_params: Params) -> Any:
            encoded = self._encode(encoder_params, policy, batch)
            loss, value = critic_loss(
                critic_params,
                state.target_critic_params,
                policy.actor,
                alpha,
                encoded,
                key,
                self.networks,
                self.config.reward_scale,
            )
            return loss, (value, encoded)

        (loss_value, (value, encoded)), (gradient, encoder_gradient) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(state.critic_params, policy.encoder)
        if self.encoder_learns_from == "critics":
            state = self._update_encoder(state, encoder_gradient)
        critic_params, opt_state = _descend(
            self.critic_optimizer, gradient, state.critic_opt_state, state.critic_params
        )
        state = state.replace(
            critic_params=critic_params,
            critic_opt_state=opt_state,
            target_critic_params=optax.incremental_update(
                critic_params, state.target_critic_params, self.config.tau
            ),
            updates=optax.safe_increment(state.updates),
        )
        return state, encoded, {"critics_loss": loss_value, "value": value}

    def update_actor(
        self, state: LearnerState, batch: Batch, encoded: Batch, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """Update actor, temperature and EMA policy, and the encoder where it learns from the actor.

        Args:
            state: after the critics' update.
            batch: as `update` takes it.
            encoded: the same batch, from the critics' update.
            key: random key.
        """
        policy, alpha = state.policy, jnp.exp(state.log_alpha)

        def loss(actor_params: Params, encoder_params: Params) -> Any:
            features = encoded
            if self.encoder_learns_from == "actor":
                actor_obs = self.networks.encode(encoder_params, policy.statistics, batch.actor_obs)
                features = encoded.replace(actor_obs=actor_obs)
            return actor_loss(actor_params, state.critic_params, alpha, features, key, self.networks)

        (loss_value, entropy), (gradient, encoder_gradient) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(policy.actor, policy.encoder)
        if self.encoder_learns_from == "actor":
            state = self._update_encoder(state, encoder_gradient)
        if self.config.learn_alpha:
            alpha_gradient = jax.grad(alpha_loss)(state.log_alpha, entropy, self.target_entropy)
            log_alpha, alpha_opt_state = _descend(
                self.actor_optimizer, alpha_gradient, state.alpha_opt_state, state.log_alpha
            )
            state = state.replace(log_alpha=log_alpha, alpha_opt_state=alpha_opt_state)
        actor_params, opt_state = _descend(
            self.actor_optimizer, gradient, state.actor_opt_state, policy.actor
        )
        policy = state.policy.replace(actor=actor_params)
        ema_policy = optax.incremental_update(policy, state.ema_policy, self._ema_rate(state.updates))
        state = state.replace(
            policy=policy,
            ema_policy=ema_policy.replace(statistics=policy.statistics),
            actor_opt_state=opt_state,
        )
        metrics = {"actor_loss": loss_value, "entropy": entropy, "alpha": jnp.exp(state.log_alpha)}
        return state, metrics

    def _encode(self, encoder_params: Params, policy: PolicyParams, batch: Batch) -> Batch:
        """The batch with encoded observations.

        The next ones are encoded by the policy's own parameters: the targets get no gradient.
        """

        def encode(params: Params, actor_obs: Any, critic_obs: Any) -> tuple[Any, Any]:
            features = self.networks.encode(params, policy.statistics, actor_obs)
            if self.same_observation:
                return features, features
            return features, self.networks.encode(params, policy.statistics, critic_obs)

        next_actor_obs, next_critic_obs = encode(policy.encoder, batch.next_actor_obs, batch.next_critic_obs)
        actor_obs, critic_obs = encode(encoder_params, batch.actor_obs, batch.critic_obs)
        return batch.replace(
            actor_obs=actor_obs,
            critic_obs=critic_obs,
            next_actor_obs=next_actor_obs,
            next_critic_obs=next_critic_obs,
        )

    def _update_encoder(self, state: LearnerState, gradient: Params) -> LearnerState:
        encoder, opt_state = _descend(
            self.encoder_optimizer, gradient, state.encoder_opt_state, state.policy.encoder
        )
        return state.replace(policy=state.policy.replace(encoder=encoder), encoder_opt_state=opt_state)

    def _ema_rate(self, updates: jax.Array) -> jax.Array:
        """Share of the policy that enters its EMA at the actor's next update."""
        covered = 1 + EMA_MAX_PART * updates.astype(jnp.float32) / self.config.policy_delay
        return jnp.maximum(self.config.policy_averaging, 1 / covered)


def update_if(
    condition: jax.Array | bool,
    update: Callable[[LearnerState], tuple[LearnerState, Metrics]],
    state: LearnerState,
) -> tuple[LearnerState, Metrics]:
    """`update(state)` where the condition holds; else the state as it is, and metrics of 0.

    A Python bool decides when the program is traced, and nothing of a condition is compiled.
    The condition must not be vmapped: a batched condition turns `lax.cond` into a select, and every
    update runs.
    """
    shapes = jax.eval_shape(update, state)[1]
    no_metrics = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    if isinstance(condition, bool):
        return update(state) if condition else (state, no_metrics)
    if kernel.on_gpu():
        # A loop of one turn or none works in place; a condition copies the networks.
        return jax.lax.fori_loop(
            0, condition.astype(jnp.int32), lambda _, carry: update(carry[0]), (state, no_metrics)
        )
    return jax.lax.cond(condition, update, lambda state: (state, no_metrics), state)


def _descend(
    optimizer: optax.GradientTransformation, gradient: Params, opt_state: optax.OptState, params: Params
) -> tuple[Params, optax.OptState]:
    updates, opt_state = optimizer.update(gradient, opt_state)
    return optax.apply_updates(params, updates), opt_state
