"""Soft actor-critic on many arenas at once: everything between two evaluations is one jitted epoch."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.agents.devices import Layout
from jaxdodge.agents.networks import sample_action
from jaxdodge.agents.normalization import include
from jaxdodge.agents.replay import Row, Stack, Transition, add, empty_replay, sample
from jaxdodge.agents.sac_agent import Batch, Learner, Metrics, Policy, Updates
from jaxdodge.agents.train_config import TrainConfig, rows_needed
from jaxdodge.agents.views import View, make_batch
from jaxdodge.sim.state import select


@struct.dataclass
class TrainState:
    """Everything that an epoch changes."""

    learner: Learner
    replay: Row
    env_state: Any
    """Of all arenas."""
    params: Any
    """Of the environment in the present episodes, leading axis (arenas,)."""
    ended: jax.Array
    """bool (arenas,): the episode of `env_state` is over."""
    key: jax.Array


@struct.dataclass
class EpochMetrics:
    """Figures of an epoch, leading axis (steps,)."""

    collected: Metrics
    """Of every step of all arenas."""
    learned: Metrics
    """Means over the updates of a step; 0 in a step without any."""
    learning: jax.Array
    """bool: whether the step had updates."""


class SAC:
    """The algorithm for one environment and configuration.

    Args:
        view: what the actor sees, of an environment with continuous actions in [-1, 1] and the methods of
            `DodgeEnv`.
        config: of the training.
        draw_params: from a key and the environment's parameters to those of one episode.
        critic_view: what the critics see; None for what the actor sees.
        seeds: independent runs in one program; then all arrays of a state have that leading axis.
        devices: that share the arenas and the batches.
    """

    def __init__(
        self,
        view: View,
        config: TrainConfig,
        draw_params: Callable[[jax.Array, Any], Any] = lambda key, params: params,
        critic_view: View | None = None,
        seeds: int | None = None,
        devices: int = 1,
    ):
        self.env = view.env
        self.view = view
        self.critic_view = critic_view
        self.config = config
        self.draw_params = draw_params
        steps = config.total_timesteps // config.num_envs
        total = steps // config.train_freq * config.gradient_steps
        self.updates = Updates(config, self.env.num_actions, total)
        init, epoch = self._init, self._epoch
        if seeds is not None:
            init = jax.vmap(init, in_axes=(0, None))

            def epoch(state: TrainState, params: Any, first_step: jax.Array, steps: int) -> Any:
                one = partial(self._epoch, steps=steps)
                return jax.vmap(one, in_axes=(0, None, None))(state, params, first_step)

        self.layout = Layout(devices, seeds is not None) if devices > 1 else None
        whole, shardings = (self.layout.whole, self.layout.state(TrainState)) if self.layout else (None, None)
        # It runs once, and is compiled in half the time.
        self.init = jax.jit(
            init, out_shardings=shardings, compiler_options={"xla_backend_optimization_level": 0}
        )
        self.epoch = jax.jit(
            epoch,
            static_argnames=("steps",),
            donate_argnames=("state",),
            out_shardings=(shardings, whole),
        )

    def policy(self, policy: Policy, observation: Any) -> jax.Array:
        """The deterministic action for an observation of the environment, batched or not."""
        return jnp.tanh(self.updates.distribution(policy, self.view.features(observation))[0])

    def sampled_policy(self, policy: Policy, observation: Any, key: jax.Array) -> jax.Array:
        """An action as it is drawn while training."""
        return sample_action(key, *self.updates.distribution(policy, self.view.features(observation)))[0]

    def policy_shapes(self) -> Policy:
        """Shapes and dtypes of a policy."""

        def init(key: jax.Array) -> Policy:
            observation, _ = self.env.reset(key, self.env.default_params)
            return self.updates.init_policy(key, self.view.features(observation))

        return jax.eval_shape(init, jax.random.key(0))

    def _init(self, key: jax.Array, params: Any) -> TrainState:
        """The state before the first epoch.

        Args:
            key: random key; everything random in the run follows from it.
            params: of the environment.
        """
        key, key_params, key_env, key_learner = jax.random.split(key, 4)
        arenas = self.config.num_envs
        episode_params = self._draw(key_params, params)
        observation, env_state = jax.vmap(self.env.reset)(jax.random.split(key_env, arenas), episode_params)
        inputs = self.view.features(jax.tree.map(lambda leaf: leaf[0], observation))
        entries = self._entries(env_state, episode_params)
        entry = jax.tree.map(lambda leaf: leaf[0], entries)
        critic_inputs = None
        if self.critic_view:
            action = jnp.zeros((1, self.env.num_actions))
            alone = Stack(jax.tree.map(lambda leaf: leaf[None, None], entry["critic"]), jnp.zeros(1), action)
            critic_inputs = self.critic_view.inputs(alone)[0]
        example = Row(
            entry, jnp.zeros(self.env.num_actions), jnp.float32(0), jnp.asarray(False), jnp.asarray(False)
        )
        return TrainState(
            learner=self.updates.init(key_learner, inputs, critic_inputs),
            replay=empty_replay(self.config.buffer_size // arenas, arenas, example),
            env_state=env_state,
            params=episode_params,
            ended=jnp.zeros(arenas, bool),
            key=key,
        )

    def _draw(self, key: jax.Array, params: Any) -> Any:
        """Parameters of an episode for every arena."""
        keys = jax.random.split(key, self.config.num_envs)
        return jax.vmap(self.draw_params, in_axes=(0, None))(keys, params)

    def _entries(self, env_state: Any, params: Any) -> dict[str, Any]:
        """What is kept of all arenas for the actor, and for critics with a view of their own."""
        entries = {"actor": self.view.entries(env_state, params)}
        if self.critic_view:
            entries["critic"] = self.critic_view.entries(env_state, params)
        return entries

    def _epoch(
        self, state: TrainState, params: Any, first_step: jax.Array, steps: int
    ) -> tuple[TrainState, EpochMetrics]:
        """Steps of all arenas, each followed by its updates.

        Args:
            state: donated.
            params: of the environment, as `init` got them.
            first_step: int32, steps of all arenas before.
            steps: how many; static.
        """
        config = self.config
        needed = rows_needed(self._frame_stack(), config.n_step)

        def step(state: TrainState, index: jax.Array) -> tuple[TrainState, EpochMetrics]:
            done = index + 1
            started = (done * config.num_envs >= config.learning_starts) & (done >= needed)
            state, collected = self._collect(state, params, index, started)
            key, key_learn = jax.random.split(state.key)
            shapes = jax.eval_shape(self.learn, state.learner, state.replay, done, key_learn)[1]
            nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            learning = started & (done % config.train_freq == 0)
            learner, learned = jax.lax.cond(
                learning,
                self.learn,
                lambda learner, *_: (learner, nothing),
                state.learner,
                state.replay,
                done,
                key_learn,
            )
            metrics = EpochMetrics(collected, learned, learning)
            return dataclasses.replace(state, learner=learner, key=key), metrics

        return jax.lax.scan(step, state, first_step + jnp.arange(steps))

    def _frame_stack(self) -> int:
        return self.env.config.frame_stack

    def _collect(
        self, state: TrainState, params: Any, index: jax.Array, started: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One step of all arenas, into the replay; with uniform actions before learning has started.

        Where an episode is over, the next one begins instead.
        """
        key, key_uniform, key_action, key_step, key_params = jax.random.split(state.key, 5)
        arenas, learner, ended = self.config.num_envs, state.learner, state.ended
        inputs = self.view.seen(state.env_state, state.params)
        if learner.policy.statistics is not None:
            statistics = include(learner.policy.statistics, inputs)
            learner = dataclasses.replace(
                learner, policy=dataclasses.replace(learner.policy, statistics=statistics)
            )
        uniform = jax.random.uniform(key_uniform, (arenas, self.env.num_actions), minval=-1, maxval=1)
        sampled, _ = sample_action(key_action, *self.updates.distribution(learner.policy, inputs))
        action = jnp.where(started, sampled, uniform)

        next_params = jax.vmap(select)(ended, self._draw(key_params, params), state.params)
        play = jax.vmap(self._play)
        env_state, reward, terminated, truncated = (
            self.layout.arena_by_arena(play) if self.layout else play
        )(jax.random.split(key_step, arenas), state.env_state, state.params, action, ended, next_params)
        row = Row(
            entry=self._entries(state.env_state, state.params),
            action=action,
            reward=reward,
            terminated=terminated,
            ended=ended,
        )
        state = TrainState(
            learner=learner,
            replay=add(state.replay, row, index),
            env_state=env_state,
            params=next_params,
            ended=(terminated | truncated) & ~ended,
            key=key,
        )
        plays = (~ended).astype(jnp.float32)
        playing = jnp.maximum(plays.sum(), 1)
        return state, {
            "reward": (reward * plays).sum() / playing,
            "terminated": (terminated * plays).sum() / playing,
        }

    def _play(
        self, key: jax.Array, state: Any, params: Any, action: jax.Array, ended: jax.Array, next_params: Any
    ) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        """A step of one arena, or where its episode is over the next one's begin: state, reward, flags."""
        _, after, reward, terminated, _ = self.env.step_env(key, state, action, params)
        truncated = self.env.is_truncated(after, params)
        _, restarted = self.env.restart(key, state, next_params)
        return select(ended, restarted, after), reward, terminated, truncated

    def learn(
        self, learner: Learner, replay: Row, step: jax.Array, key: jax.Array
    ) -> tuple[Learner, Metrics]:
        """The updates of one step, each on transitions of its own; means of their metrics."""
        updates, delay = self.updates, self.config.policy_delay

        def update(learner: Learner, inputs: tuple[jax.Array, jax.Array]) -> tuple[Learner, Metrics]:
            index, key = inputs
            key_batch, key_critics, key_actor = jax.random.split(key, 3)
            batch = self.draw_batch(key_batch, replay, step)
            learner, seen, metrics = updates.update_critics(learner, batch, key_critics)
            shapes = jax.eval_shape(updates.update_actor, learner, batch, seen, key_actor)[1]
            nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            learner, actor_metrics = jax.lax.cond(
                (index + 1) % delay == 0,
                lambda learner: updates.update_actor(learner, batch, seen, key_actor),
                lambda learner: (learner, nothing),
                learner,
            )
            # Means over all updates, of what happened in one of `delay`.
            return learner, metrics | {name: delay * value for name, value in actor_metrics.items()}

        count = self.config.gradient_steps
        learner, metrics = jax.lax.scan(update, learner, (jnp.arange(count), jax.random.split(key, count)))
        return learner, jax.tree.map(jnp.mean, metrics)

    def draw_batch(self, key: jax.Array, replay: Row, step: jax.Array) -> Batch:
        """A batch of transitions from the replay after `step` steps, images shifted if so configured."""
        config = self.config
        key_sample, *keys_shift = jax.random.split(key, 3)
        drawn: Transition = sample(
            key_sample,
            replay,
            step,
            config.batch_size,
            frame_stack=self._frame_stack(),
            n_step=config.n_step,
            gamma=config.gamma,
        )
        if self.layout:
            drawn = self.layout.everywhere(drawn)
        batch = make_batch(keys_shift, drawn, self.view, self.critic_view, config.random_shift)
        return self.layout.batch(batch) if self.layout else batch
