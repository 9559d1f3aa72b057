"""The environment in gymnax's own hands: its registry, wrappers, rollouts and animation."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.experimental.rollout import RolloutWrapper
from gymnax.wrappers import LegacyStepAPIWrapper, LogWrapper
from played_envs import DENSE, SMALL_IMAGE, key_of

import jaxdodge
from jaxdodge.sim.gymnax_visualizer import Visualizer

# An episode is about as long as a ball needs to arrive, so that some end in either way.
FIELDS = {**DENSE, "action_space_type": "basic_3d", "max_episode_steps": 54}
ACTIONS = jnp.float32([[0, 0, -1], [0.3, 0.2, -1], [-0.5, 0, -1], [0, -0.5, -1]])


@pytest.fixture(scope="module")
def made():
    return gymnax.make("jaxdodge/Dodge-v0", **FIELDS)


def test_what_gymnax_knows_of_its_own_environments(made):
    env, params = made
    assert params.max_steps_in_episode == 54
    assert params.replace(max_steps_in_episode=3).max_steps_in_episode == 3
    assert env.obs_shape == env.observation_space(params).shape == (65,)
    image = jaxdodge.make(observation_mode="topdown", observe_previous_action=True, **SMALL_IMAGE)[0]
    assert image.obs_shape == {"image": (32, 40, 3), "previous_action": (5,)}


@pytest.mark.parametrize("fields", [FIELDS, {"observation_mode": "topdown", "frame_stack": 3, **SMALL_IMAGE}])
def test_the_state_space(fields):
    env, params = jaxdodge.make(**fields)
    space, state = env.state_space(params), env.start()
    assert space.contains(state)
    assert not space.contains(state.replace(time=-(2**31)))
    sample = jax.tree.leaves(jax.eval_shape(space.sample, key_of(0)))
    assert sum(leaf.size for leaf in sample) == sum(leaf.size for leaf in jax.tree.leaves(state))
    assert np.isfinite(
        space.spaces["game"].spaces["projectiles"].spaces["position"].spaces["x"].sample(key_of(0))
    ).all()


@pytest.fixture(scope="module")
def played(made):
    """States before each of 120 steps of four environments, rewards and infos: (120, 4, ...)."""
    env, params = made

    def step(state, key):
        keys = jax.random.split(key, 4)
        _, after, reward, _, _, info = jax.vmap(env.step, (0, 0, 0, None))(keys, state, ACTIONS, params)
        return after, (state, reward, info)

    first = jax.vmap(env.reset, (0, None))(jax.random.split(key_of(1), 4), params)[1]
    return jax.device_get(jax.lax.scan(step, first, jax.random.split(key_of(2), 120))[1])


def test_the_discount_is_zero_where_a_collision_ended_the_episode(played):
    _, _, info = played
    assert info["terminated"].any()
    assert (info["truncated"] & ~info["terminated"]).any()
    np.testing.assert_array_equal(info["discount"], np.where(info["terminated"], 0, 1))


def test_rollouts(made, played):
    """As long as an episode by default; the mask of gymnax ends the return where it ends."""
    rollout = RolloutWrapper(lambda action, obs, key: action, env_name="jaxdodge/Dodge-v0", env_kwargs=FIELDS)
    obs, _, reward, _, done, total = rollout.batch_rollout(jax.random.split(key_of(3), 2), ACTIONS[0])
    assert obs.shape == (2, 54, 65)
    ends = np.argmax(np.asarray(done), axis=1)
    for row, end in enumerate(ends):
        np.testing.assert_allclose(total[row, 0], np.sum(reward[row, : end + 1]), rtol=1e-5)
    assert np.asarray(done).any(axis=1).all()
    shorter = RolloutWrapper(env=made[0], env_params={"max_steps_in_episode": 4})
    assert shorter.num_env_steps == shorter.env_params.max_steps_in_episode == 4


def test_wrappers(made):
    env, params = made
    results = []
    for wrapper in (LegacyStepAPIWrapper(env), LogWrapper(env)):
        state = jax.eval_shape(wrapper.reset, key_of(0), params)[1]
        results.append(jax.eval_shape(wrapper.step, key_of(1), state, ACTIONS[0], params))
    assert len(results[0]) == 5
    assert results[1][-1]["returned_episode_lengths"].shape == ()


def test_the_visualizer_draws_the_game(made, played, tmp_path):
    states, rewards, _ = played
    sequence = [jax.tree.map(lambda leaf, at=at: leaf[at, 1], states) for at in (0, 20)]
    visualizer = Visualizer(*made, sequence, np.cumsum(rewards[:, 1])[:2])
    visualizer.animate(f"{tmp_path / 'play.gif'}")
    assert (tmp_path / "play.gif").read_bytes().startswith(b"GIF89a")
    drawn = np.asarray(visualizer.im.get_array())
    assert drawn.shape == (256, 256, 3)
    assert (drawn != np.asarray(visualizer._image(0))).any(), "the player has moved"


def test_brax(made):
    """Scans over states need the structure of the first one, in info too."""
    pytest.importorskip("brax", reason="brax is not installed")
    from brax.envs.wrappers.training import VmapWrapper
    from gymnax.wrappers.brax import GymnaxToBraxWrapper

    env = VmapWrapper(GymnaxToBraxWrapper(made[0]))
    state = env.reset(jax.random.split(key_of(1), 4))
    np.testing.assert_array_equal(state.info["discount"], 1)

    def step(state, _):
        after = env.step(state, ACTIONS)
        return after, (after.info["discount"], after.info["terminated"], after.info["truncated"])

    discount, terminated, truncated = jax.lax.scan(step, state, None, 120)[1]
    assert terminated.any()
    assert (truncated & ~terminated).any()
    np.testing.assert_array_equal(discount, np.where(terminated, 0, 1))
