"""Soft actor-critic on many arenas at once.

Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905), where the
equations named below are. Everything that happens between two evaluations is one jitted epoch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.networks import Actor, critic_ensemble, sample_action
from jaxdodge.agents.replay import Replay, Transition, add, empty_replay, sample

Params = Any
Metrics = dict[str, jax.Array]


@struct.dataclass
class Learner:
    """What updates change; everything that a learned policy consists of."""

    actor: Params
    average_actor: Params
    """Exponential average of `actor`, which is what gets evaluated and deployed."""
    critics: Params
    target_critics: Params
    log_temperature: jax.Array
    """float32: logarithm of the entropy's weight."""
    actor_optimizer: optax.OptState
    critics_optimizer: optax.OptState
    temperature_optimizer: optax.OptState
    updates: jax.Array
    """int32: updates so far."""


@struct.dataclass
class TrainState:
    """Everything that an epoch changes."""

    learner: Learner
    replay: Replay
    env_state: Any
    """Of all arenas."""
    observation: jax.Array
    """float32 (arenas, features): of `env_state`."""
    key: jax.Array


class SAC:
    """The algorithm for one environment and configuration.

    Args:
        env: continuous actions in [-1, 1]; gymnax 1.0 contract with `info["final_observation"]`.
        features: from an observation of `env`, batched or not, to what the networks see.
        config: of the training.
    """

    def __init__(self, env: Any, features: Callable[[jax.Array], jax.Array], config: TrainConfig):
        self.env = env
        self.features = features
        self.config = config
        self.actor: Any = Actor(config.net_arch, env.num_actions)
        self.critics: Any = critic_ensemble(config.net_arch)
        updates = config.total_timesteps // config.num_envs * config.gradient_steps
        # With steps of one size to the end the return would swing.
        self.optimizer = optax.adam(optax.linear_schedule(config.learning_rate, 0, updates))
        self.target_entropy = -float(env.num_actions)
        self.epoch = jax.jit(self._epoch, static_argnames=("steps",), donate_argnames=("state",))

    def policy(self, actor: Params, observation: jax.Array) -> jax.Array:
        """The deterministic action for an observation of the environment, batched or not."""
        return jnp.tanh(self.actor.apply(actor, self.features(observation))[0])

    def actor_shapes(self) -> Params:
        """Shapes and dtypes of the actor's parameters."""
        return jax.eval_shape(self._init_actor, jax.random.key(0))

    def _init_actor(self, key: jax.Array) -> Params:
        space = self.env.observation_space(self.env.default_params)
        return self.actor.init(key, self.features(jnp.zeros(space.shape)))

    def init(self, key: jax.Array, params: Any) -> TrainState:
        """The state before the first epoch.

        Args:
            key: random key; everything random in the run follows from it.
            params: of the environment, leading axis (num_envs,).
        """
        key, key_env, key_learner = jax.random.split(key, 3)
        reset = jax.jit(jax.vmap(self.env.reset))
        observation, env_state = reset(jax.random.split(key_env, self.config.num_envs), params)
        observation = self.features(observation)
        action = jnp.zeros(self.env.num_actions)
        zero = jnp.float32(0)
        example = Transition(observation[0], action, zero, zero, observation[0])
        rows = self.config.buffer_size // self.config.num_envs
        return TrainState(
            learner=self._init_learner(key_learner, observation[0], action),
            replay=empty_replay(rows, self.config.num_envs, example),
            env_state=env_state,
            observation=observation,
            key=key,
        )

    def _init_learner(self, key: jax.Array, features: jax.Array, action: jax.Array) -> Learner:
        key_actor, key_critics = jax.random.split(key)
        actor = self._init_actor(key_actor)
        critics = self.critics.init(key_critics, features, action)
        log_temperature = jnp.log(jnp.float32(self.config.init_temperature))
        return Learner(
            actor=actor,
            # Copies, because a buffer can be donated only once.
            average_actor=jax.tree.map(jnp.copy, actor),
            critics=critics,
            target_critics=jax.tree.map(jnp.copy, critics),
            log_temperature=log_temperature,
            actor_optimizer=self.optimizer.init(actor),
            critics_optimizer=self.optimizer.init(critics),
            temperature_optimizer=self.optimizer.init(log_temperature),
            updates=jnp.int32(0),
        )

    def critics_loss(
        self, critics: Params, learner: Learner, batch: Transition, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Squared Bellman error of all critics, equations 5 and 6; and their mean value."""
        next_action, log_density = sample_action(
            key, *self.actor.apply(learner.actor, batch.next_observation)
        )
        next_values = self.critics.apply(learner.target_critics, batch.next_observation, next_action)
        next_value = next_values.min(axis=0) - jnp.exp(learner.log_temperature) * log_density
        target = self.config.reward_scale * batch.reward + self.config.gamma * batch.discount * next_value
        values = self.critics.apply(critics, batch.observation, batch.action)
        return 0.5 * jnp.mean((values - jax.lax.stop_gradient(target)) ** 2, axis=-1).sum(), values.mean()

    def actor_loss(
        self, actor: Params, learner: Learner, batch: Transition, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Equation 9; and the policy's entropy."""
        action, log_density = sample_action(key, *self.actor.apply(actor, batch.observation))
        value = self.critics.apply(learner.critics, batch.observation, action).min(axis=0)
        temperature = jnp.exp(learner.log_temperature)
        return jnp.mean(temperature * log_density - value), -log_density.mean()

    def temperature_loss(self, log_temperature: jax.Array, entropy: jax.Array) -> jax.Array:
        """Equation 18: the temperature rises while the policy's entropy is below its target."""
        return jnp.exp(log_temperature) * jax.lax.stop_gradient(entropy - self.target_entropy)

    def update(self, learner: Learner, batch: Transition, key: jax.Array) -> tuple[Learner, Metrics]:
        """One step of critics, actor, temperature, target critics and averaged actor.

        Args:
            learner: before the update.
            batch: leading axis (batch_size,).
            key: random key.
        """
        key_critics, key_actor = jax.random.split(key)
        (critics_loss, value), gradient = jax.value_and_grad(self.critics_loss, has_aux=True)(
            learner.critics, learner, batch, key_critics
        )
        critics, critics_optimizer = self._descend(gradient, learner.critics_optimizer, learner.critics)
        learner = dataclasses.replace(
            learner,
            critics=critics,
            critics_optimizer=critics_optimizer,
            target_critics=optax.incremental_update(critics, learner.target_critics, self.config.tau),
        )
        (actor_loss, entropy), gradient = jax.value_and_grad(self.actor_loss, has_aux=True)(
            learner.actor, learner, batch, key_actor
        )
        actor, actor_optimizer = self._descend(gradient, learner.actor_optimizer, learner.actor)
        gradient = jax.grad(self.temperature_loss)(learner.log_temperature, entropy)
        log_temperature, temperature_optimizer = self._descend(
            gradient, learner.temperature_optimizer, learner.log_temperature
        )
        learner = dataclasses.replace(
            learner,
            actor=actor,
            actor_optimizer=actor_optimizer,
            average_actor=optax.incremental_update(
                actor, learner.average_actor, self.config.policy_averaging
            ),
            log_temperature=log_temperature,
            temperature_optimizer=temperature_optimizer,
            updates=learner.updates + 1,
        )
        return learner, {
            "critics_loss": critics_loss,
            "actor_loss": actor_loss,
            "value": value,
            "entropy": entropy,
            "temperature": jnp.exp(log_temperature),
        }

    def _descend(
        self, gradient: Params, optimizer_state: optax.OptState, params: Params
    ) -> tuple[Params, optax.OptState]:
        changes, optimizer_state = self.optimizer.update(gradient, optimizer_state)
        return optax.apply_updates(params, changes), optimizer_state

    def _epoch(self, state: TrainState, params: Any, steps: int) -> tuple[TrainState, Metrics]:
        """`steps` steps of all arenas, each followed by the updates; means of the metrics over all steps."""

        def step(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            started = state.replay.steps * self.config.num_envs >= self.config.learning_starts
            state, collected = self._collect(state, params, started)
            key, key_learn = jax.random.split(state.key)
            shapes = jax.eval_shape(self._learn, state.learner, state.replay, key_learn)[1]
            zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            learner, learned = jax.lax.cond(
                started,
                self._learn,
                lambda learner, *_: (learner, zeros),
                state.learner,
                state.replay,
                key_learn,
            )
            learned["learning"] = started.astype(jnp.float32)
            return dataclasses.replace(state, learner=learner, key=key), collected | learned

        state, metrics = jax.lax.scan(step, state, None, length=steps)
        return state, jax.tree.map(jnp.mean, metrics)

    def _collect(self, state: TrainState, params: Any, started: jax.Array) -> tuple[TrainState, Metrics]:
        """One step of all arenas, into the replay; with uniform actions before learning has started."""
        key, key_uniform, key_action, key_step = jax.random.split(state.key, 4)
        arenas = self.config.num_envs
        uniform = jax.random.uniform(key_uniform, (arenas, self.env.num_actions), minval=-1, maxval=1)
        sampled, _ = sample_action(key_action, *self.actor.apply(state.learner.actor, state.observation))
        action = jnp.where(started, sampled, uniform)
        observation, env_state, reward, terminated, _, info = jax.vmap(self.env.step)(
            jax.random.split(key_step, arenas), state.env_state, action, params
        )
        row = Transition(
            observation=state.observation,
            action=action,
            reward=reward,
            discount=1 - terminated.astype(jnp.float32),
            next_observation=self.features(info["final_observation"]),
        )
        state = dataclasses.replace(
            state,
            replay=add(state.replay, row),
            env_state=env_state,
            observation=self.features(observation),
            key=key,
        )
        return state, {"reward": reward.mean(), "terminated": terminated.astype(jnp.float32).mean()}

    def _learn(self, learner: Learner, replay: Replay, key: jax.Array) -> tuple[Learner, Metrics]:
        """The updates of one step, on transitions drawn together."""
        key_sample, key_updates = jax.random.split(key)
        updates, size = self.config.gradient_steps, self.config.batch_size
        drawn = sample(key_sample, replay, updates * size)
        batches = jax.tree.map(lambda leaf: leaf.reshape(updates, size, *leaf.shape[1:]), drawn)
        learner, metrics = jax.lax.scan(
            lambda learner, inputs: self.update(learner, *inputs),
            learner,
            (batches, jax.random.split(key_updates, updates)),
        )
        return learner, jax.tree.map(jnp.mean, metrics)
