"""A trained policy sees what it saw in training; games that it cannot play are refused."""

import jax
import numpy as np
import pytest

from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.runs.policy import TrainedPolicy
from jaxdodge.sim.actions import action_size
from jaxdodge.sim.spaces import published_space

TRAIN = TrainConfig(net_arch=(8,))
IMAGE = {
    "observation_mode": "topdown",
    "image_obs_width": 40,
    "image_obs_height": 32,
    "image_grayscale": True,
}
LAGGING = {"frames_per_step": 3, "response_frame": 0}
GAMES = {
    "stacked vectors and the previous action": {"frame_stack": 3, **LAGGING},
    "an indicator": {"observation_mode": "with_thrower", "action_space_type": "full_6d"},
    "stacked images and the previous action": {"frame_stack": 3, **IMAGE, **LAGGING},
}


def random_run(folder, game: GameConfig) -> Run:
    """A run whose policy was never trained."""
    run = Run.create(folder, "run", game, TRAIN)
    generator = np.random.default_rng(0)
    shapes = make_trainer(game, TRAIN).policy_shapes()
    weights = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    run.save_policy("best", weights)
    return run


@pytest.mark.parametrize("fields", GAMES.values(), ids=GAMES)
def test_a_trained_policy_sees_what_it_saw_in_training(fields, tmp_path):
    game = GameConfig(**{"level": 2, "action_space_type": "basic_3d"} | fields)
    run = random_run(tmp_path, game)
    trainer = make_trainer(game, TRAIN)
    weights = run.load_policy("best", trainer.policy_shapes())
    expected = jax.jit(trainer.policy)
    policy = TrainedPolicy(run)
    generator = np.random.default_rng(1)
    space = published_space(game)
    for _ in range(2):
        policy.reset()
        stack = [np.zeros(space.shape, space.dtype)] * game.frame_stack
        action = np.zeros(action_size(game.action_space_type), np.float32)
        for _ in range(5):
            published = generator.uniform(0, 10, space.shape).astype(space.dtype)
            is_image = published.ndim == 3
            stack = [*stack[1:], published]
            # Oldest first, zeros before the episode; the previous action is never stacked.
            observation = np.concatenate(stack, axis=-1)
            if game.observe_previous_action and is_image:
                observation = {"image": observation, "previous_action": action}
            elif game.observe_previous_action:
                observation = np.concatenate([observation, action])
            action = policy.act(published)
            np.testing.assert_allclose(action, expected(weights, observation), atol=1e-6)
            assert action.dtype == np.float32


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"action_space_type": "full_6d"}, "action_space_type"),
        ({"observation_mode": "topdown"}, "observation_mode"),
        ({"frame_stack": 2}, "frame_stack"),
        ({"player_speed": 51}, "player_speed"),
    ],
)
def test_a_game_that_the_policy_cannot_play_is_refused_by_its_field(setting, name):
    with pytest.raises(ConfigError, match=f"{name}: invalid value .*; expected "):
        changed_game(GameConfig(level=2, action_space_type="basic_3d"), setting)
