"""A loaded agent sees what it saw in training; games that it cannot play are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdodge
from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import Run, changed_game
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
    policy = jaxdodge.load(run.folder)
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
            # Stacked already, as the environment gives it, it is taken as it is.
            np.testing.assert_array_equal(policy.act(observation), expected(weights, observation))
            action = policy.act(published)
            np.testing.assert_allclose(action, expected(weights, observation), atol=1e-6)
            assert action.dtype == np.float32


@pytest.fixture(scope="module")
def agent(tmp_path_factory) -> "jaxdodge.runs.policy.Agent":
    game = GameConfig(level=2, action_space_type="basic_3d", frame_stack=2, **LAGGING)
    return jaxdodge.load(random_run(tmp_path_factory.mktemp("results"), game).folder)


def test_an_agent_plays_its_environment_inside_jit(agent):
    @jax.jit
    def play(params, key):
        observation, _ = jax.vmap(agent.env.reset)(jax.random.split(key, 3))
        return observation, agent.policy(params, observation)

    observation, actions = play(agent.params, jax.random.key(0))
    alone = np.stack([agent.act(each) for each in np.asarray(observation)])
    np.testing.assert_allclose(actions, alone, atol=1e-6)
    assert isinstance(agent.act(observation), jax.Array)
    assert isinstance(agent.act(np.asarray(observation)), np.ndarray)


def test_many_episodes_are_remembered_apart(agent):
    published = np.random.default_rng(2).uniform(0, 10, (4, 2, 65)).astype(np.float32)
    alone = []
    for environment in range(2):
        agent.reset()
        alone.append([agent.act(published[step, environment]) for step in range(2)])
        if environment == 1:
            agent.reset()
        alone[-1] += [agent.act(published[step, environment]) for step in range(2, 4)]
    agent.reset()
    together = [agent.act(published[step]) for step in range(2)]
    agent.reset(ended=np.array([False, True]))
    together += [agent.act(jnp.asarray(published[step])) for step in range(2, 4)]
    np.testing.assert_allclose(np.stack(together, axis=1), alone, atol=1e-6)
    agent.reset()


def test_sampled_actions_differ_and_others_do_not(agent):
    published = np.ones((64, 65), np.float32)
    sampled = agent.act(published, sampled=True)
    agent.reset()
    assert np.all(np.std(sampled, axis=0) > 0)
    assert np.all(np.ptp(agent.act(published), axis=0) < 1e-5)
    agent.reset()


def test_an_observation_of_another_shape_is_refused(agent):
    message = (
        r"observation: invalid value of float32 \(66,\); expected float32 \(65,\) or \(133,\), one or many"
    )
    with pytest.raises(ValueError, match=message):
        agent.act(np.zeros(66, np.float32))
    agent.act(np.zeros((3, 65), np.float32))
    with pytest.raises(ValueError, match=r"of shape \(65,\); expected \(3, 65\) as before"):
        agent.act(np.zeros(65, np.float32))
    agent.reset()


def test_an_observation_that_is_not_finite_is_refused_and_forgotten(agent):
    still = np.zeros(65, np.float32)
    expected = [agent.act(still), agent.act(still)]
    agent.reset()
    np.testing.assert_array_equal(agent.act(still), expected[0])
    with pytest.raises(ValueError, match="observation: invalid value, not finite; expected finite"):
        agent.act(still * np.nan)
    np.testing.assert_array_equal(agent.act(still), expected[1])
    agent.reset()


def test_weights_that_are_not_finite_are_refused(agent, tmp_path):
    run = random_run(tmp_path, agent.game)
    run.save_policy("best", jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), agent.params))
    with pytest.raises(ConfigError, match=r"models/best: its weights are not finite$"):
        jaxdodge.load(run.folder)
    with pytest.raises(ConfigError, match=r"models/final: no such file"):
        jaxdodge.load(run.folder, "final")
    with pytest.raises(ConfigError, match=r"policy: invalid value 'worst'; expected best, final"):
        jaxdodge.load(run.folder, "worst")


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
