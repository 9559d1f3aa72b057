"""Training in many environments at once: rollout and updates, all in one jitted epoch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.agents.devices import Layout
from jaxdodge.agents.flat import flat
from jaxdodge.agents.losses import Batch
from jaxdodge.agents.networks import sample_action, update_statistics
from jaxdodge.agents.observations import Observers, make_batch
from jaxdodge.agents.replay import Row, Transition, add, empty_replay, sample
from jaxdodge.agents.sac_agent import LearnerState, Metrics, PolicyParams, SACAgent, update_if
from jaxdodge.agents.train_config import TrainConfig, counting_period, steps_before_learning
from jaxdodge.agents.updates import updates_by_condition, updates_unrolled
from jaxdodge.sim import kernel
from jaxdodge.sim.state import select


class TrainingState(struct.PyTreeNode):
    """Everything that an epoch changes."""

    learner: LearnerState
    replay: Row
    env_state: Any
    """Leading axis (num_envs,)."""
    env_params: Any
    """Of the present episodes, leading axis (num_envs,)."""
    ended: jax.Array
    """bool (num_envs,): the episode of `env_state` is over."""
    key: jax.Array


class EpochMetrics(struct.PyTreeNode):
    """Metrics of an epoch, leading axis (steps,)."""

    collected: Metrics
    """Of each step of all environments."""
    learned: Metrics
    """Means over the updates of a step; 0 in a step without updates."""
    learning: jax.Array
    """bool: whether the step had updates."""


class Trainer:
    """A SAC agent in the environments that it learns in.

    Args:
        observers: of an environment with the methods of `DodgeEnv` and actions in [-1, 1].
        config: of the training.
        draw_params: from a key and the environment's parameters to those of one episode.
        seeds: independent runs in one program; then all arrays of a state have that leading axis.
        devices: that share the environments and the batches.
    """

    def __init__(
        self,
        observers: Observers,
        config: TrainConfig,
        draw_params: Callable[[jax.Array, Any], Any] = lambda key, params: params,
        seeds: int | None = None,
        devices: int = 1,
    ):
        self.env = observers.actor.env
        self.observers = observers
        self.config = config
        self.draw_params = draw_params
        steps = config.total_timesteps // config.num_envs
        total_updates = steps // config.train_freq * config.gradient_steps
        self.agent = SACAgent(config, self.env.num_actions, total_updates)
        self.layout = Layout(devices, seeds is not None) if devices > 1 else None
        init, epoch = self._init, self._epoch
        if seeds is not None:
            init = jax.vmap(init, in_axes=(0, None))

            def epoch(state: TrainingState, params: Any, first_step: jax.Array, steps: int) -> Any:
                one = partial(self._epoch, steps=steps)
                return jax.vmap(one, in_axes=(0, None, None))(state, params, first_step)

        shardings = self.shardings()
        # It runs once, and without optimization it compiles in half the time.
        self.init = jax.jit(
            init, out_shardings=shardings, compiler_options={"xla_backend_optimization_level": 0}
        )
        self.epoch = jax.jit(
            epoch,
            static_argnames=("steps",),
            donate_argnames=("state",),
            out_shardings=(shardings, self.layout and self.layout.replicated),
        )

    def shardings(self) -> Any:
        """Of the parts of a `TrainingState`; None on one device."""
        if self.layout is None:
            return None
        envs: Any = self.layout.sharded(axis=0)
        time_and_envs: Any = self.layout.sharded(axis=1)
        replicated: Any = self.layout.replicated
        return TrainingState(
            learner=replicated,
            replay=time_and_envs,
            env_state=envs,
            env_params=envs,
            ended=envs,
            key=replicated,
        )

    def policy(self, policy: PolicyParams, observation: Any) -> jax.Array:
        """The deterministic action for an observation of the environment, batched or not."""
        return jnp.tanh(self.agent.distribution(policy, self.observers.actor.features(observation))[0])

    def sampled_policy(self, policy: PolicyParams, observation: Any, key: jax.Array) -> jax.Array:
        """An action sampled as while training."""
        actor_obs = self.observers.actor.features(observation)
        return sample_action(key, *self.agent.distribution(policy, actor_obs))[0]

    def policy_shapes(self) -> PolicyParams:
        """Shapes and dtypes of a policy."""

        def init(key: jax.Array) -> PolicyParams:
            observation, _ = self.env.reset(key, self.env.default_params)
            return self.agent.init_policy(key, self.observers.actor.features(observation))

        return jax.eval_shape(init, jax.random.key(0))

    def _init(self, key: jax.Array, params: Any) -> TrainingState:
        """The state before the first epoch.

        Args:
            key: random key; everything random in the run follows from it.
            params: of the environment.
        """
        key, key_params, key_env, key_learner = jax.random.split(key, 4)
        num_envs = self.config.num_envs
        env_params = self._draw(key_params, params)
        _, env_state = jax.vmap(self.env.reset)(jax.random.split(key_env, num_envs), env_params)
        actor_obs, critic_obs, frame = jax.tree.map(
            lambda leaf: leaf[0],
            (
                self.observers.actor.observe(env_state, env_params),
                self.observers.critic.observe(env_state, env_params),
                self.observers.frames(env_state, env_params),
            ),
        )
        example = Row(
            frame,
            jnp.zeros(self.env.num_actions, jnp.float32),
            jnp.float32(0),
            jnp.asarray(False),
            jnp.asarray(False),
        )
        return TrainingState(
            learner=self.agent.init(key_learner, actor_obs, critic_obs),
            replay=empty_replay(self.config.buffer_size // num_envs, num_envs, example),
            env_state=env_state,
            env_params=env_params,
            ended=jnp.zeros(num_envs, bool),
            key=key,
        )

    def _draw(self, key: jax.Array, params: Any) -> Any:
        """Parameters of an episode for each environment."""
        keys = jax.random.split(key, self.config.num_envs)
        return jax.vmap(self.draw_params, in_axes=(0, None))(keys, params)

    def _epoch(
        self, state: TrainingState, params: Any, first_step: jax.Array, steps: int
    ) -> tuple[TrainingState, EpochMetrics]:
        """Steps of all environments, each followed by its updates.

        Args:
            state: donated.
            params: of the environment, as `init` got them.
            first_step: int32, steps of all environments before, or their `equivalent_step`.
            steps: how many; static.
        """
        config = self.config
        first_update = steps_before_learning(config, self._frame_stack())
        agent, learner, restore = self._agent_for_device(state.learner)

        def step(state: TrainingState, index: jax.Array) -> tuple[TrainingState, EpochMetrics]:
            done = index + 1
            started = done >= first_update
            state, collected = self._collect(agent, state, params, index, started)
            key, key_learn = jax.random.split(state.key)
            learning = started & (done % config.train_freq == 0)
            learner, learned = update_if(
                learning,
                lambda learner: self._learn(agent, learner, state.replay, done, key_learn),
                state.learner,
            )
            return state.replace(learner=learner, key=key), EpochMetrics(collected, learned, learning)

        state, metrics = jax.lax.scan(
            step, state.replace(learner=learner), first_step + jnp.arange(steps, dtype=jnp.int32)
        )
        return state.replace(learner=restore(state.learner)), metrics

    def _agent_for_device(
        self, learner: LearnerState
    ) -> tuple[SACAgent, LearnerState, Callable[[LearnerState], LearnerState]]:
        """The agent and the learner as an epoch computes with them: flat on a GPU, see `flat`.

        Returns:
            The third restores a learner to what a `TrainingState` holds.
        """
        if not kernel.on_gpu():
            return self.agent, learner, lambda same: same
        # XLA cannot divide a kernel between devices.
        return flat(self.agent, learner, kernels=self.layout is None)

    def equivalent_step(self, step: int) -> int:
        """A step that an epoch cannot tell from this one, and that fits into int32.

        Once the replay is full and learning has started, only the place in the ring and the phase
        of the updates matter.
        """
        config = self.config
        least = max(config.buffer_size // config.num_envs, steps_before_learning(config, self._frame_stack()))
        return step if step <= least else least + 1 + (step - least - 1) % counting_period(config)

    def _frame_stack(self) -> int:
        return self.env.config.frame_stack

    def _collect(
        self, agent: SACAgent, state: TrainingState, params: Any, index: jax.Array, started: jax.Array
    ) -> tuple[TrainingState, Metrics]:
        """One step of all environments, into the replay; actions are uniform until learning starts.

        Where an episode is over, the next one begins instead.
        """
        key, key_uniform, key_action, key_step, key_params = jax.random.split(state.key, 5)
        num_envs, learner, ended = self.config.num_envs, state.learner, state.ended
        actor_obs = self.observers.actor.observe(state.env_state, state.env_params)
        if learner.policy.statistics is not None:
            statistics = update_statistics(learner.policy.statistics, actor_obs)
            learner = learner.replace(policy=learner.policy.replace(statistics=statistics))
        shape = num_envs, self.env.num_actions
        uniform = jax.random.uniform(key_uniform, shape, jnp.float32, minval=-1, maxval=1)
        sampled, _ = sample_action(key_action, *agent.distribution(learner.policy, actor_obs))
        action = jnp.where(started, sampled, uniform)

        next_params = jax.vmap(select)(ended, self._draw(key_params, params), state.env_params)
        step_all = jax.vmap(self._step_or_restart)
        if self.layout:
            step_all = self.layout.shard_map(step_all)
        env_state, reward, terminated, truncated = step_all(
            jax.random.split(key_step, num_envs),
            state.env_state,
            state.env_params,
            action,
            ended,
            next_params,
        )
        row = Row(
            frame=self.observers.frames(state.env_state, state.env_params),
            action=action,
            reward=reward,
            terminated=terminated,
            ended=ended,
        )
        state = TrainingState(
            learner=learner,
            replay=add(state.replay, row, index),
            env_state=env_state,
            env_params=next_params,
            ended=(terminated | truncated) & ~ended,
            key=key,
        )
        playing = (~ended).astype(jnp.float32)
        count = jnp.maximum(playing.sum(), 1)
        return state, {
            "reward": (reward * playing).sum() / count,
            "terminated": (terminated * playing).sum() / count,
        }

    def _step_or_restart(
        self, key: jax.Array, state: Any, params: Any, action: jax.Array, ended: jax.Array, next_params: Any
    ) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        """A step of one environment, or the start of its next episode: state, reward, flags."""
        _, after, reward, terminated, _ = self.env.step_env(key, state, action, params)
        truncated = self.env.is_truncated(after, params)
        _, restarted = self.env.restart(key, state, next_params)
        return select(ended, restarted, after), reward, terminated, truncated

    def learn(
        self, learner: LearnerState, replay: Row, step: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """The updates of one step, each with a batch of its own; means of their metrics."""
        agent, learner, restore = self._agent_for_device(learner)
        learner, metrics = self._learn(agent, learner, replay, step, key)
        return restore(learner), metrics

    def _learn(
        self, agent: SACAgent, learner: LearnerState, replay: Row, step: jax.Array, key: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """`learn` with the agent of `_agent_for_device`."""

        def draw(key: jax.Array) -> Any:
            key_batch, *keys = jax.random.split(key, 3)
            return self.draw_transitions(key_batch, replay, step), keys

        def update(learner: LearnerState, drawn: Any, update_actor: jax.Array | bool) -> Any:
            transitions, keys = drawn
            return agent.update(learner, self.make_batch(*transitions), keys, update_actor)

        # On a GPU a condition copies the networks, and every draw costs kernels. On a CPU both cost
        # next to nothing, and only one update is compiled.
        updates = updates_unrolled if kernel.on_gpu() else updates_by_condition
        keys = jax.random.split(key, self.config.gradient_steps)
        learner, metrics = updates(update, draw, self.config.policy_delay, learner, keys)
        return learner, jax.tree.map(jnp.mean, metrics)

    def draw_batch(self, key: jax.Array, replay: Row, step: jax.Array) -> Batch:
        """A batch from the replay after `step` steps; images are shifted if so configured."""
        return self.make_batch(*self.draw_transitions(key, replay, step))

    def draw_transitions(
        self, key: jax.Array, replay: Row, step: jax.Array
    ) -> tuple[Transition, Sequence[jax.Array]]:
        """What a batch is made from: transitions, and two random keys of the images' shifts."""
        config = self.config
        key_sample, *keys_shift = jax.random.split(key, 3)
        transitions = sample(
            key_sample,
            replay,
            step,
            config.batch_size,
            frame_stack=self._frame_stack(),
            n_step=config.n_step,
            gamma=config.gamma,
        )
        return (self.layout.replicate(transitions) if self.layout else transitions), keys_shift

    def make_batch(self, transitions: Transition, keys_shift: Sequence[jax.Array]) -> Batch:
        """The batch of what `draw_transitions` returns."""
        batch = make_batch(keys_shift, transitions, self.observers, self.config.random_shift)
        return self.layout.shard_batch(batch) if self.layout else batch
