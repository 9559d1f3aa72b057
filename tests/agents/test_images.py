"""Images as the encoder takes them: averaged down, and cut into patches."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.encoders import PatchEncoder, patch_side
from jaxdodge.agents.images import GREY_LEVELS, PatchEnv, SquintEnv, env_class, image_features, observed
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig, check_trainable
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.render.average import average
from jaxdodge.render.patches import to_patches
from jaxdodge.render.topdown import background
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
CONFIG = TrainConfig(
    squint=3, num_envs=4, buffer_size=400, batch_size=8, critic_observation="state", random_shift=False
)


DRAWN = DodgeEnv(dataclasses.replace(GAME, projectile_spawn_interval=0.1))


@partial(jax.jit, static_argnums=0)
def play(env):
    """Observations and ends of random play."""

    def step(state, keys):
        action = jax.random.uniform(keys[0], (3,), minval=-1, maxval=1)
        observation, state, _, terminated, _, _ = env.step(keys[1], state, action)
        return state, (observation, terminated)

    keys = jax.random.split(jax.random.key(2), (120, 2))
    return jax.lax.scan(step, env.reset(jax.random.key(1))[1], keys)[1]


@pytest.mark.parametrize("random_shift", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_observations_are_those_of_the_drawn_images(random_shift):
    """Over the ends of episodes, where stacks begin anew; in patch order and in image order."""
    game, config = DRAWN.config, dataclasses.replace(CONFIG, random_shift=random_shift)
    envs = DRAWN, env_class(config)(game)
    assert isinstance(envs[1], SquintEnv)

    (drawn, ended), (averaged, ended_too) = map(play, envs)
    assert ended.sum() > 2
    np.testing.assert_array_equal(ended, ended_too)
    features, of_averages = (image_features(seen, config, game) for seen in (drawn, averaged))
    jax.tree.map(np.testing.assert_array_equal, features, of_averages)
    if random_shift:
        np.testing.assert_array_equal(averaged["image"], average(drawn["image"], 3))


@pytest.mark.parametrize(("width", "height", "gray"), [(84, 84, True), (45, 63, False)])
def test_patches_of_drawn_images_are_those_of_the_stack(width, height, gray):
    """Over the ends of episodes; parameters and features are those of whole images."""
    size = {"image_obs_width": width, "image_obs_height": height}
    game = dataclasses.replace(DRAWN.config, **size, image_grayscale=gray)
    config = dataclasses.replace(CONFIG, squint=1)
    env = env_class(config)(game)
    assert isinstance(env, PatchEnv)
    (drawn, ended), (cut, ended_too) = map(play, (DodgeEnv(game), env))
    assert ended.sum() > 2
    np.testing.assert_array_equal(ended, ended_too)
    side = patch_side(height, width)
    np.testing.assert_array_equal(cut["image"], to_patches(drawn["image"], side))
    features, of_patches = (image_features(seen, config, game) for seen in (drawn, cut))
    jax.tree.map(np.testing.assert_array_equal, features, of_patches)

    whole = image_features(drawn, dataclasses.replace(config, random_shift=True), game)["image"]
    assert whole.shape[-3:] == drawn["image"].shape[-3:]
    params, params_too = (
        encoder.init(jax.random.key(0), images)
        for encoder, images in ((PatchEncoder(), whole), (PatchEncoder(patch_order=True), features["image"]))
    )
    jax.tree.map(np.testing.assert_array_equal, params, params_too)
    encoded = PatchEncoder(patch_order=True).apply(params, features["image"])
    np.testing.assert_array_equal(PatchEncoder().apply(params, whole), encoded)


def test_vectors_are_not_cut():
    game = dataclasses.replace(GAME, observation_mode="standard")
    env = env_class(dataclasses.replace(CONFIG, squint=1, critic_observation="same"))(game)
    assert isinstance(env, PatchEnv)
    np.testing.assert_array_equal(play(env)[0], play(DodgeEnv(game))[0])


@pytest.mark.parametrize("squint", [1, 3])
def test_an_image_of_another_size_is_refused(squint):
    image = np.zeros((81, 81, 2), np.uint8)
    with pytest.raises(AssertionError):
        image_features(image, dataclasses.replace(CONFIG, squint=squint), GAME)


@pytest.mark.parametrize(("width", "height", "gray"), [(84, 84, True), (96, 60, False)])
def test_patch_order_is_the_order_of_the_first_patches(width, height, gray):
    """Each frame of a stack by itself: its values follow those of the frame before."""
    game = dataclasses.replace(GAME, image_obs_width=width, image_obs_height=height, image_grayscale=gray)
    config = dataclasses.replace(CONFIG, random_shift=False)
    channels = 1 if gray else 3
    image = np.random.default_rng(0).integers(0, 256, (5, height, width, 2 * channels), np.uint8)
    side = -(-min(height, width) // 3 // 4)
    frames = [to_patches(average(image[..., at : at + channels], 3), side) for at in (0, channels)]
    ground = to_patches(average(background(width, height, gray), 3), side)
    expected = np.concatenate(frames, axis=-1) - np.concatenate([ground, ground], axis=-1, dtype=np.float32)
    found = image_features(image, config, game)["image"]
    np.testing.assert_allclose(found * GREY_LEVELS, expected, atol=1e-4)


@pytest.mark.slow
def test_a_policy_acts_alike_on_full_images_and_on_averages():
    trainer = make_trainer(GAME, CONFIG)
    state = trainer.init(jax.random.key(0), trainer.env.default_params)
    policy = state.learner.policy
    image = np.random.default_rng(0).integers(0, 256, (5, 84, 84, 2), np.uint8)
    observation = {"image": image, "previous_action": jnp.zeros((5, 3))}
    act = jax.jit(trainer.policy)
    averaged = observation | {"image": observed(image, CONFIG, GAME.frame_stack)}
    np.testing.assert_array_equal(act(policy, observation), act(policy, averaged))
    assert averaged["image"].shape == (5, 4, 4, 2 * 49)
    assert state.replay.frame["actor"].shape[2:] == (4, 4, 49)


def test_an_empty_image_is_zero_and_a_disc_is_not():
    ground = np.concatenate([background(84, 84, grayscale=True)] * 2, axis=-1)
    disc = ground.copy()
    disc[40:44, 40:44] += 100
    for config in (CONFIG, TrainConfig()):
        assert not image_features(ground, config, GAME)["image"].any()
        assert image_features(disc, config, GAME)["image"].max() > 0.2
    with_action = {"image": disc, "previous_action": np.ones(3)}
    features = image_features(with_action, TrainConfig(), GAME)
    assert features["previous_action"] is with_action["previous_action"]
    np.testing.assert_array_equal(features["image"], (disc - ground) / np.float32(GREY_LEVELS))


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
