"""Averaging images down inside the agent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.features import image_observation
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.squint import SquintEnv
from jaxdodge.agents.train_config import TrainConfig, check_trainable
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.render.average import average
from jaxdodge.sim.env import DodgeEnv

GAME = GameConfig(
    level=2,
    spawn_angle_degrees=30.0,
    action_space_type="basic_3d",
    observation_mode="topdown",
    image_obs_width=84,
    image_obs_height=84,
    frames_per_step=7,
    response_frame=0,
    frame_stack=2,
    image_grayscale=True,
)
CONFIG = TrainConfig(squint=3, num_envs=4, buffer_size=400, batch_size=8, critic_observation="state")


def test_observations_are_the_averages_of_the_drawn_images():
    """Over the ends of episodes, where stacks begin anew."""
    game = dataclasses.replace(GAME, projectile_spawn_interval=0.1)
    envs = DodgeEnv(game), SquintEnv(3, game)

    def play(env):
        def step(state, keys):
            action = jax.random.uniform(keys[0], (3,), minval=-1, maxval=1)
            observation, state, _, terminated, _, _ = env.step(keys[1], state, action)
            return state, (observation, terminated)

        keys = jax.random.split(jax.random.key(2), (120, 2))
        return jax.lax.scan(step, env.reset(jax.random.key(1))[1], keys)[1]

    (drawn, ended), (averaged, ended_too) = (jax.jit(play, static_argnums=0)(env) for env in envs)
    assert ended.sum() > 2
    np.testing.assert_array_equal(ended, ended_too)
    np.testing.assert_array_equal(average(drawn["image"], 3), averaged["image"])
    np.testing.assert_array_equal(drawn["previous_action"], averaged["previous_action"])


def test_a_policy_acts_alike_on_full_images_and_on_averages():
    trainer = make_trainer(GAME, CONFIG)
    state = trainer.init(jax.random.key(0), trainer.env.default_params)
    policy = state.learner.policy
    image = np.random.default_rng(0).integers(0, 256, (5, 84, 84, 2), np.uint8)
    observation = {"image": image, "previous_action": jnp.zeros((5, 3))}
    act = jax.jit(trainer.policy)
    averaged = observation | {"image": average(image, 3)}
    np.testing.assert_array_equal(act(policy, observation), act(policy, averaged))
    assert state.replay.frame["actor"].shape[2:] == (28, 28, 1)


def test_without_squint_an_image_stays_as_it_is():
    image = np.ones((32, 32, 1), np.uint8)
    assert image_observation(image, height=32, squint=1) == {"image": image}
    with_action = {"image": image, "previous_action": np.ones(3)}
    assert image_observation(with_action, height=32, squint=1) is with_action


@pytest.mark.parametrize(
    ("game", "train", "reason"),
    [
        (
            {},
            {"squint": 5},
            "squint: invalid value 5; expected 1, or with observation_mode topdown a divisor",
        ),
        ({"observation_mode": "standard"}, {"squint": 3, "critic_observation": "same"}, "squint: invalid"),
        ({}, {"encoder": "nature"}, "encoder: invalid value 'nature'; expected patches (its images have 28"),
        ({}, {"encoder": "resnet"}, "encoder: invalid value 'resnet'; expected patches, nature"),
    ],
)
def test_what_does_not_go_together_is_invalid(game, train, reason):
    with pytest.raises(ConfigError) as error:
        check_trainable(dataclasses.replace(GAME, **game), dataclasses.replace(CONFIG, **train))
    assert str(error.value).startswith(reason)
