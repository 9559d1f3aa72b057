"""Policies: what the scripted ones do in every space, and that a trained one sees what it saw in training."""

import jax
import numpy as np
import pytest

from jaxdodge.agents.setup import make_sac
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.bevy.client import Response
from jaxdodge.bevy.policies import PERIOD, ScriptedPolicy, TrainedPolicy
from jaxdodge.config import ACTION_SPACES, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import Run, changed_game
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS, action_size
from jaxdodge.sim.spaces import published_space

TRAIN = TrainConfig(net_arch=(8,))
NOTHING = Response(np.zeros(65, np.float32), None, 0, 0)


def play(name: str, space: str, seed: int = 0, steps: int = 3 * PERIOD) -> np.ndarray:
    policy = ScriptedPolicy(name, space, seed)
    policy.reset()
    actions = np.stack([policy.act(NOTHING) for _ in range(steps)])
    assert actions.dtype == (np.int32 if space == "discrete" else np.float32)
    assert actions.shape == ((steps,) if space == "discrete" else (steps, len(COMPONENTS[space])))
    assert (actions >= (0 if space == "discrete" else -1)).all()
    assert (actions <= (4 if space == "discrete" else 1)).all()
    return actions


def directions(actions: np.ndarray, space: str) -> np.ndarray:
    return DISCRETE_DIRECTIONS[actions] if space == "discrete" else actions[:, :2]


@pytest.mark.parametrize("space", ACTION_SPACES.names)
def test_what_the_scripted_policies_do(space):
    assert not directions(play("still", space), space).any()
    strafe = directions(play("strafe", space), space)
    assert not strafe[:, 1].any()
    assert np.unique(strafe[:, 0]).tolist() == [-1, 1]
    assert np.count_nonzero(np.diff(strafe[:, 0])) == 3 * 2
    circle = directions(play("circle", space), space)
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(circle.mean(axis=0), 0, atol=1e-6)
    quadrants = np.unique(np.rint(np.arctan2(circle[:, 1], circle[:, 0]) / (np.pi / 2)) % 4)
    assert quadrants.tolist() == [0, 1, 2, 3]
    drawn = play("random", space)
    if space == "discrete":
        assert np.unique(drawn).tolist() == [0, 1, 2, 3, 4]
    else:
        assert (np.ptp(drawn, axis=0) > 1.5).all()
        for name in ("still", "strafe", "circle"):
            for component in {"sprint", "jump"} & {*COMPONENTS[space]}:
                assert (play(name, space)[:, COMPONENTS[space].index(component)] == -1).all()


@pytest.mark.parametrize("name", ["random", "strafe", "circle"])
def test_a_seed_decides_everything(name):
    np.testing.assert_array_equal(play(name, "full_6d", 1), play(name, "full_6d", 1))
    assert any((play(name, "full_6d", 1) != play(name, "full_6d", seed)).any() for seed in (2, 3))


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
    shapes = make_sac(game, TRAIN).policy_shapes()
    weights = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    run.save_policy("best", weights)
    return run


@pytest.mark.parametrize("fields", GAMES.values(), ids=GAMES)
def test_a_trained_policy_sees_what_it_saw_in_training(fields, tmp_path):
    game = GameConfig(**{"level": 2, "action_space_type": "basic_3d"} | fields)
    run = random_run(tmp_path, game)
    sac = make_sac(game, TRAIN)
    weights = run.load_policy("best", sac.policy_shapes())
    expected = jax.jit(sac.policy)
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
            vector = np.zeros(0, np.float32) if is_image else published
            stack = [*stack[1:], published]
            # Oldest first, zeros before the episode; the previous action is never stacked.
            observation = np.concatenate(stack, axis=-1)
            if game.observe_previous_action and is_image:
                observation = {"image": observation, "previous_action": action}
            elif game.observe_previous_action:
                observation = np.concatenate([observation, action])
            action = policy.act(Response(vector, published if is_image else None, 0, 0))
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
