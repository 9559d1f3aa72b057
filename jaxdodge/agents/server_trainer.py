"""The agent's side of a training on servers: it acts, stores transitions and learns from them.

The agent, its losses and its updates are those of `Trainer`. Only the replay's rows come from
outside, and each server adds them at its own pace.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxdodge.agents.networks import sample_action
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.replay import Row, empty_replay
from jaxdodge.agents.sac_agent import LearnerState, Metrics, PolicyParams
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig


class ServerTrainingState(struct.PyTreeNode):
    """Everything that a checkpoint of a training on servers holds."""

    learner: LearnerState
    replay: Row
    """Leading axes (rows, servers). The newest row of a server is the end of an episode with its
    newest observation, until a transition that continues from there is written over it."""
    rows: jax.Array
    """int32 (servers,): rows of each server so far; those that are overwritten count too."""
    key: jax.Array
    updates_before: jax.Array
    """int32 (): updates of the learner before this run."""


class ServerTrainer:
    """Compiled functions on a `ServerTrainingState`.

    Args:
        game: that the servers play.
        config: of the training; `num_envs` is the number of servers.
    """

    def __init__(self, game: GameConfig, config: TrainConfig):
        self.config = config
        self.trainer = make_trainer(game, config)
        # As in the simulator, see `make_trainer`.
        self._extra_penalty = (config.collision_penalty_factor - 1) * game.collision_penalty
        self.init = jax.jit(self._init)
        self.shapes = jax.eval_shape(self.init, jax.random.key(0))
        self.act = jax.jit(self._act)
        self.add = jax.jit(self._add, donate_argnums=0)
        self.learn = jax.jit(self._learn, donate_argnums=(0, 2))

    def _features(self, observations: Any) -> jax.Array:
        return self.trainer.observers.actor.features(observations)

    def _init(self, key: jax.Array) -> ServerTrainingState:
        """The state before the first transition."""
        key, key_learner = jax.random.split(key)
        env, agent, config = self.trainer.env, self.trainer.agent, self.config
        actor_obs = self._features(env.reset(key, env.default_params)[0])
        no = jnp.asarray(False)
        row = Row({"actor": actor_obs}, jnp.zeros(env.num_actions, jnp.float32), jnp.float32(0), no, no)
        return ServerTrainingState(
            learner=agent.init(key_learner, actor_obs, actor_obs),
            replay=empty_replay(config.buffer_size // config.num_envs, config.num_envs, row),
            rows=jnp.zeros(config.num_envs, jnp.int32),
            key=key,
            updates_before=jnp.int32(0),
        )

    def _act(
        self, policy: PolicyParams, ema_policy: PolicyParams, words: Any, observations: Any, evaluated: Any
    ) -> jax.Array:
        """The actions of all servers, float32 (servers, components).

        Args:
            policy: samples the actions.
            ema_policy: acts deterministically where `evaluated`.
            words: uint32 (2,), random.
            observations: of the fleet.
            evaluated: bool (servers,).
        """
        actor_obs = self._features(observations)
        key = jax.random.fold_in(jax.random.key(words[0]), words[1])
        sampled, _ = sample_action(key, *self.trainer.agent.distribution(policy, actor_obs))
        return jnp.where(evaluated[:, None], self.trainer.policy(ema_policy, observations), sampled)

    def _add(
        self, state: ServerTrainingState, observations: Any, rows: Row, server: Any, number: Any, counts: Any
    ) -> ServerTrainingState:
        """Write rows into the replay.

        Args:
            state: donated.
            observations: of the fleet, leading axis (count,).
            rows: of them, without frames.
            server: int32 (count,); one that does not exist writes nothing.
            number: int32 (count,): of the row at this server; no place twice.
            counts: int32 (servers,): rows of each server after it.
        """
        reward = rows.reward + self._extra_penalty * rows.terminated
        rows = rows.replace(frame={"actor": self._features(observations)}, reward=reward)
        at = number % state.replay.reward.shape[0]
        replay = jax.tree.map(lambda ring, new: ring.at[at, server].set(new, mode="drop"), state.replay, rows)
        return state.replace(replay=replay, rows=counts)

    def _learn(
        self, learner: LearnerState, replay: Row, key: jax.Array, rows: jax.Array, rounds: jax.Array
    ) -> tuple[LearnerState, jax.Array, Metrics]:
        """So many rounds of `gradient_steps` updates; the mean of their metrics.

        Args:
            learner, key: donated.
            replay, rows: of the state.
            rounds: int32; 0 changes nothing.
        """

        def one(_: Any, carry: Any) -> Any:
            learner, key, sums = carry
            key, key_learn = jax.random.split(key)
            learner, metrics = self.trainer.learn(learner, replay, rows, key_learn)
            return learner, key, jax.tree.map(jnp.add, sums, metrics)

        shapes = jax.eval_shape(self.trainer.learn, learner, replay, rows, key)[1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        learner, key, sums = jax.lax.fori_loop(0, rounds, one, (learner, key, zeros))
        return learner, key, jax.tree.map(lambda total: total / rounds, sums)
