"""Training: it learns, from images and in the game; an epoch is compiled
once and repeats bit for bit.
"""

import dataclasses
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import compile_as_users, users_jit

from jaxdodge.agents import trainer as trainer_module
from jaxdodge.agents.observations import Observer, Observers
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.sac_agent import update_if
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.agents.trainer import Trainer
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import evaluate
from jaxdodge.sim import kernel

SMALL = TrainConfig(
    num_envs=8,
    learning_starts=80,
    buffer_size=1600,
    gradient_steps=1,
    policy_delay=1,
    batch_size=8,
    gamma=0.5,
    tau=0.05,
    learning_rate_schedule="constant",
    net_arch=(32,),
    ent_coef=1e-3,
    reward_scale=1.0,
)


class Sides:
    """Images that are bright on one side; the action must point to the side
    that was bright a step ago.
    """

    num_actions = 1
    default_params = jnp.int32(0)
    config = SimpleNamespace(frame_stack=2)
    EPISODE = 8

    def reset(self, key, params):
        state = jnp.stack([0, jax.random.bernoulli(key).astype(jnp.int32), 0])
        return self.observe(key, state, None, params), state

    def restart(self, key, state, params):
        return self.reset(key, params)

    def step_env(self, key, state, action, params):
        before, side, time = state
        reward = jnp.where(time > 0, action[0] * (2 * before - 1), 0.0)
        state = jnp.stack([side, jax.random.bernoulli(key).astype(jnp.int32), time + 1])
        return self.observe(key, state, None, params), state, reward, jnp.asarray(False), {}

    def is_truncated(self, state, params):
        return state[2] >= self.EPISODE

    def observe(self, key, state, action, params):
        return self.assemble(state[:2], state[2], None)

    def stored_frame(self, state, params):
        return state[1]

    def assemble(self, entries, time, previous_action):
        right = jnp.arange(32) >= 16
        images = jnp.where(right[:, None] == (entries > 0), jnp.uint8(200), jnp.uint8(20))
        images = jnp.where(jnp.arange(2) >= 1 - time, images, jnp.uint8(0))
        return jnp.broadcast_to(images, (32, 32, 2))


def test_a_policy_learns_from_images_of_the_past():
    config = dataclasses.replace(SMALL, gradient_steps=2, batch_size=32)
    observer, params = Observer(Sides(), lambda image: {"image": image}), jnp.int32(0)
    trainer = Trainer(Observers(observer, observer), config)
    state, metrics = trainer.init(jax.random.key(0), params), []
    for epoch in range(4):
        state, figures = trainer.epoch(state, params, jnp.int32(epoch * 40), steps=40)
        metrics.append(figures)
    assert trainer.epoch._cache_size() == 1
    before, after = (float(jnp.mean(figures.collected["reward"])) for figures in (metrics[0], metrics[-1]))
    # The first of an episode's steps pays nothing; a random action pays 0 on average.
    assert abs(before) < 0.2
    assert after > 0.6


IMAGES = GameConfig(
    **{"level": 2, "action_space_type": "basic_3d", "observation_mode": "topdown", "frame_stack": 2},
    **{"image_obs_width": 32, "image_obs_height": 32, "image_grayscale": True, "frames_per_step": 7},
)


@pytest.mark.slow
def test_training_on_images_of_the_game_is_compiled_once_and_repeats_bit_for_bit():
    config = dataclasses.replace(SMALL, precision="bfloat16", critic_observation="state")
    trainer = make_trainer(IMAGES, config)
    params = trainer.env.default_params

    def run() -> Any:
        state = trainer.init(jax.random.key(0), params)
        for epoch in range(3):
            state, metrics = trainer.epoch(state, params, jnp.int32(epoch * 10), steps=10)
        return jax.tree.map(np.asarray, (state.learner, metrics))

    one, other = run(), run()
    assert trainer.epoch._cache_size() == 1
    assert int(one[0].updates) > 10
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for leaf in jax.tree.leaves(one[0]):
        assert leaf.dtype in (np.float32, np.int32)
        assert np.isfinite(leaf).all()


GAME = GameConfig(
    level=2, spawn_angle_degrees=30.0, action_space_type="basic_3d", frames_per_step=7, response_frame=0
)


@pytest.mark.slow
def test_a_short_run_beats_a_random_policy_and_repeats_bit_for_bit():
    config = TrainConfig(num_envs=256, learning_starts=10_000, buffer_size=250_000, net_arch=(64, 64))
    trainer = compile_as_users(make_trainer(GAME, config))
    params = trainer.env.default_params

    def run(epochs: int) -> list[Any]:
        state, learners = trainer.init(jax.random.key(1), params), []
        for epoch in range(epochs):
            state, _ = trainer.epoch(state, params, jnp.int32(epoch * 50), steps=50)
            learners.append(jax.tree.map(np.asarray, state.learner))
        return learners

    learners = run(10)
    jax.tree.map(np.testing.assert_array_equal, run(1), learners[:1])
    assert int(learners[0].updates) > 0
    assert trainer.epoch._cache_size() == 1

    def policy(weights, observation):
        guess = jax.random.uniform(jax.random.key(7), (len(observation), 3), minval=-1, maxval=1)
        return jnp.where(weights["guesses"], guess, trainer.policy(weights["policy"], observation))

    evaluate_as_users = users_jit(evaluate.__wrapped__, static_argnames=("env", "policy", "episodes"))

    def score(guesses: bool) -> float:
        weights = {"guesses": jnp.asarray(guesses), "policy": learners[-1].ema_policy}
        return evaluate_as_users(trainer.env, policy, weights, params, jax.random.key(0), 64).summary()[
            "mean"
        ]

    guessed, learned = score(True), score(False)
    assert guessed < 20
    assert learned > guessed + 100


@pytest.mark.slow
def test_the_updates_of_a_gpu_have_the_bits_of_those_of_a_cpu(monkeypatch):
    """Without a condition and drawn at once; flat parameters are rounded alike op by op only."""
    config = dataclasses.replace(SMALL, gradient_steps=8, policy_delay=4, net_arch=(8,), ent_coef="auto")
    trainer = make_trainer(GameConfig(level=2, action_space_type="basic_3d"), config)
    state = trainer.init(jax.random.key(0), trainer.env.default_params)
    replay = jax.tree.map(
        lambda leaf: (
            jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
            if leaf.dtype == jnp.float32
            else leaf
        ),
        state.replay,
    )

    def learned() -> Any:
        # With little optimization: else XLA on CPU merges operations of critics and actor.
        learn = jax.jit(partial(trainer.learn))
        return learn(state.learner, replay, jnp.int32(150), jax.random.key(2))

    on_cpu = learned()
    monkeypatch.setattr(kernel, "on_gpu", lambda: True)
    on_gpu = learned()
    monkeypatch.setattr(trainer_module, "flat", lambda *same, kernels: (*same, lambda one: one))
    assert int(on_cpu[0].updates) == config.gradient_steps
    jax.tree.map(np.testing.assert_array_equal, on_cpu, learned())
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), on_cpu, on_gpu)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_an_update_happens_where_its_condition_holds(on_gpu, monkeypatch):
    monkeypatch.setattr(kernel, "on_gpu", lambda: on_gpu)

    def update(state: Any) -> Any:
        return state + 1, {"loss": state * 2}

    for condition, expected in ((True, (6, {"loss": 10})), (False, (5, {"loss": 0}))):
        assert update_if(condition, update, jnp.int32(5)) == expected
        assert jax.jit(partial(update_if, update=update))(jnp.asarray(condition), state=5) == expected
