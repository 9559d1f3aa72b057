"""Rollout and replay: every observation of a batch equals what the
environment emitted, byte for byte.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from played_envs import DENSE

from jaxdodge.agents.observations import Observer, Observers
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.agents.trainer import Trainer, TrainingState
from jaxdodge.config import GameConfig

NUM_ENVS, LENGTH = 8, 24
# Part of a ring, a ring that is just full, and one that has been overwritten more than twice.
MOMENTS = (22, LENGTH, 60)


@struct.dataclass
class RecordedState:
    """A state, and what the environment emitted on the way to it."""

    game: Any
    observation: Any
    reward: jax.Array
    terminated: jax.Array


class RecordingEnv:
    """An environment whose states record what it emitted."""

    def __init__(self, env: Any):
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def _recorded(self, observation: Any, state: Any) -> tuple[Any, RecordedState]:
        return observation, RecordedState(state, observation, jnp.float32(0), jnp.asarray(False))

    def reset(self, key, params):
        return self._recorded(*self.env.reset(key, params))

    def restart(self, key, state, params):
        return self._recorded(*self.env.restart(key, state.game, params))

    def step_env(self, key, state, action, params):
        observation, game, reward, terminated, info = self.env.step_env(key, state.game, action, params)
        return observation, RecordedState(game, observation, reward, terminated), reward, terminated, info

    def is_truncated(self, state, params):
        return self.env.is_truncated(state.game, params)

    def observe(self, key, state, action, params):
        return self.env.observe(key, state.game, action, params)

    def stored_frame(self, state, params):
        return self.env.stored_frame(state.game, params)


class Played(NamedTuple):
    """What happened, arrays of [time, env, ...]."""

    observation: Any
    observed: Any
    critic_observation: Any
    ended: Any
    action: Any
    reward: Any
    terminated: Any


def make_recording(game: GameConfig, config: TrainConfig) -> Trainer:
    """A trainer on such an environment, whose batches hold the environment's own observations."""
    trainer = make_trainer(game, config)

    def recording(observer: Observer, features: Any = lambda observation: observation) -> Observer:
        return Observer(RecordingEnv(observer.env), features, observer.store_features)

    actor, critic = trainer.observers
    image = game.observation_mode == "topdown"
    recorded = recording(actor, actor.features) if image else recording(actor)
    trainer.observers = Observers(recorded, recorded if trainer.observers.same else recording(critic))
    trainer.env = recorded.env
    # Some episodes end by a hit, some by their limit.
    trainer.draw_params = lambda key, params: params.replace(
        max_steps_in_episode=jax.random.randint(key, (), 6, 30)
    )
    return trainer


def play(trainer: Trainer) -> tuple[Played, dict[int, Any]]:
    """What happened in all steps, and the replay at some moments."""
    params = trainer.env.default_params
    key = jax.random.key(0)

    @jax.jit
    def begin() -> TrainingState:
        # Actions are uniform: no parameter is used, and their initialization need not be compiled.
        return dataclasses.replace(trainer._init(key, params), learner=None)

    @jax.jit
    def step(state: TrainingState, index: jax.Array) -> tuple[TrainingState, Played]:
        def observed(env: Any) -> Any:
            return jax.vmap(partial(env.observe, None, action=None))(
                state=state.env_state, params=state.env_params
            )

        after, _ = trainer._collect(trainer.agent, state, params, index, jnp.asarray(False))
        played = Played(
            observation=state.env_state.observation,
            observed=observed(trainer.env),
            critic_observation=observed(trainer.observers.critic.env),
            ended=state.ended,
            action=after.env_state.game.action,
            reward=after.env_state.reward,
            terminated=after.env_state.terminated,
        )
        return after, played

    learner = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(trainer._init, key, params).learner
    )
    state, steps, replays = dataclasses.replace(begin(), learner=learner), [], {}
    for index in range(MOMENTS[-1]):
        state, played = step(state, jnp.int32(index))
        steps.append(played)
        if index + 1 in MOMENTS:
            replays[index + 1] = state.replay
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps), replays


def assert_same_bytes(one: Any, other: Any) -> None:
    for mine, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        mine, its = np.asarray(mine), np.asarray(its)
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        # Not the numbers: -0 and 0 are different bytes.
        assert mine.tobytes() == its.tobytes()


SERVER_TIMING = {"frames_per_step": 7, "response_frame": 0}
ONE_FRAME = {"fps": 8.0}
IMAGE = {"observation_mode": "topdown", "image_obs_width": 32, "image_obs_height": 32}
GAMES: dict[str, tuple[dict[str, Any], str]] = {
    "vector": (ONE_FRAME, "same"),
    "vector, stacked, with action": (SERVER_TIMING | {"frame_stack": 3}, "same"),
    "with_thrower, action not shown": (
        SERVER_TIMING | {"observation_mode": "with_thrower", "observe_previous_action": False},
        "same",
    ),
    "colour": (ONE_FRAME | IMAGE, "same"),
    "colour, stacked, with action, state": (SERVER_TIMING | IMAGE | {"frame_stack": 3}, "state"),
    "gray, stacked": (ONE_FRAME | IMAGE | {"image_grayscale": True, "frame_stack": 3}, "same"),
}


MARKS = {
    "vector": (),
    # With images, a stack, and critics that see something else.
    "colour, stacked, with action, state": pytest.mark.slow,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=MARKS.get(name, [pytest.mark.slow, pytest.mark.nightly])) for name in GAMES],
)
def test_batches_hold_what_the_environment_emitted(name):
    fields, critic_observation = GAMES[name]
    game = GameConfig(**DENSE, **fields, action_space_type="basic_3d")
    config = TrainConfig(
        num_envs=NUM_ENVS,
        buffer_size=NUM_ENVS * LENGTH,
        batch_size=512,
        net_arch=(8,),
        gamma=0.9,
        random_shift=False,
        critic_observation=critic_observation,
    )
    trainer = make_recording(game, config)
    played, replays = play(trainer)
    assert_same_bytes(played.observed, played.observation)
    died = played.terminated & ~played.ended
    cut = np.roll(played.ended, -1, axis=0)[:-1] & ~died[:-1]
    assert died.sum() > 3
    assert cut.sum() > 3
    places = {played.action[place].tobytes(): place for place in zip(*np.nonzero(~played.ended), strict=True)}
    assert len(places) == (~played.ended).sum()
    for n_step in (1, 3):
        trainer.config = dataclasses.replace(config, n_step=n_step)
        draw, outcomes = jax.jit(trainer.draw_batch), set()
        for steps, replay in replays.items():
            batch = jax.tree.map(np.asarray, draw(jax.random.key(steps), replay, jnp.int32(steps)))
            found = [places[action.tobytes()] for action in batch.action]
            check(trainer, played, batch, tuple(np.transpose(found)), n_step)
            outcomes |= {outcome(played, place, n_step) for place in found}
        assert outcomes == {"goes on", "died", "cut"}


def check(
    trainer: Trainer, played: Played, batch: Any, place: tuple[np.ndarray, np.ndarray], n_step: int
) -> None:
    """Check a batch, whose rows were sampled from these times and environments."""
    time, env = place
    steps, reward = np.zeros_like(time), np.zeros(len(time))
    for offset in range(n_step):
        goes_on = (steps == offset) & ~played.ended[np.minimum(time + offset, MOMENTS[-1] - 1), env]
        reward[goes_on] += 0.9**offset * played.reward[time + offset, env][goes_on]
        steps += goes_on
    later = time + steps, env
    died = played.terminated[later[0] - 1, env]
    np.testing.assert_allclose(batch.reward, reward, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(batch.discount, np.where(died, 0, 0.9**steps), rtol=1e-6)
    features, same = trainer.observers.actor.features, trainer.observers.same
    critic_observation = features(played.observation) if same else played.critic_observation
    assert_same_bytes(batch.actor_obs, features(at(played.observation, place)))
    assert_same_bytes(batch.next_actor_obs, features(at(played.observation, later)))
    assert_same_bytes(batch.critic_obs, at(critic_observation, place))
    assert_same_bytes(batch.next_critic_obs, at(critic_observation, later))


def at(tree: Any, place: tuple[np.ndarray, np.ndarray]) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], tree)


def outcome(played: Played, place: tuple[int, int], n_step: int) -> str:
    time, env = place
    for step in range(time, time + n_step):
        if played.terminated[step, env]:
            return "died"
        if played.ended[step + 1, env]:
            return "cut"
    return "goes on"
