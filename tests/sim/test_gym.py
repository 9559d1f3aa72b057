"""The Gymnasium environments: the library's own checks, and its own vector
environment as the reference.
"""

import copy
import pickle
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gym_envs import CONFIGURATIONS, CONTINUOUS, NUM_ENVS, equal, run
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.passive_env_checker import check_obs
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from jaxdodge.fields import ConfigError
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.gym import DodgeGymEnv, DodgeVectorEnv


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in ("image", "discrete") else ())
        for name in CONFIGURATIONS
    ]
)
def fields(request):
    return CONFIGURATIONS[request.param]


def test_gymnasium_checker(fields):
    environment = gymnasium.make("jaxdodge/Dodge-v0", render_mode="rgb_array", **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment.unwrapped)


def test_vector_checker(fields):
    """The passive checks of observations, and the types of everything else."""
    environment = gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=NUM_ENVS, **fields)
    environment.action_space.seed(0)
    assert environment.observation_space == gymnasium.vector.utils.batch_space(
        environment.single_observation_space, NUM_ENVS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observations, _ = environment.reset(seed=0)
        check_obs(observations, environment.observation_space, "reset")
        for _ in range(3):
            observations, rewards, *flags, _ = environment.step(environment.action_space.sample())
            check_obs(observations, environment.observation_space, "step")
    assert (rewards.dtype, rewards.shape) == (np.float64, (NUM_ENVS,))
    assert all((flag.dtype, flag.shape) == (bool, (NUM_ENVS,)) for flag in flags)
    rewards += 1  # the caller owns what it gets
    environment.close()
    assert environment.closed


def test_vector_environment_is_gymnasiums_own_over_single_ones(fields):
    """All bits, all keys and masks of info, through several episodes,
    in autoreset mode SAME_STEP.
    """
    reference = SyncVectorEnv(
        [lambda: DodgeGymEnv(**fields)] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    environment = DodgeVectorEnv(NUM_ENVS, **fields)
    environment.action_space.seed(1)
    assert equal(environment.reset(seed=7), reference.reset(seed=7))
    endings = np.zeros(2, int)
    for step in range(160):
        actions = environment.action_space.sample()
        mine, its = environment.step(actions), reference.step(actions)
        assert equal(mine, its), f"step {step}"
        endings += [mine[2].sum(), mine[3].sum()]
        if step == 40:
            mask = np.array([True, False, True, False])
            # Gymnasium takes the mask out of the options.
            options = [{"reset_mask": mask} for _ in range(2)]
            again = [None, None, 3, None]
            assert equal(
                environment.reset(seed=again, options=options[0])[0],
                reference.reset(seed=again, options=options[1])[0],
            )
    assert (endings > 0).all(), "the run must see deaths and time limits"
    assert equal(environment.reset(), reference.reset())


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_the_other_autoreset_modes_are_gymnasiums_own(mode):
    reference = SyncVectorEnv([lambda: DodgeGymEnv(**CONTINUOUS)] * NUM_ENVS, autoreset_mode=mode)
    environment = gymnasium.make_vec(
        "jaxdodge/Dodge-v0", num_envs=NUM_ENVS, autoreset_mode=mode.value, **CONTINUOUS
    )
    assert environment.metadata["autoreset_mode"] is mode
    environment.action_space.seed(1)
    assert equal(environment.reset(seed=7), reference.reset(seed=7))
    endings = np.zeros(2, int)
    for step in range(120):
        actions = environment.action_space.sample()
        mine, its = environment.step(actions), reference.step(actions)
        assert equal(mine, its), f"step {step}"
        endings += [mine[2].sum(), mine[3].sum()]
        ended = mine[2] | mine[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            with pytest.raises(ResetNeeded, match=f"environment {np.argmax(ended)}: its episode has ended"):
                environment.step(actions)
            mine, its = (each.reset(options={"reset_mask": ended}) for each in (environment, reference))
            assert equal(mine, its), f"step {step}"
    assert (endings > 0).all(), "the run must see deaths and time limits"


def test_vector_step_is_the_environments_step(vector):
    """final_obs is what `DodgeEnv.step` calls final_observation; the
    observation is a restarted env's.
    """
    env = DodgeEnv(vector.config)
    params = env.default_params
    vector.reset(seed=0)
    ends = 0
    step = jax.jit(jax.vmap(env.step, in_axes=(0, 0, 0, None)))
    split = jax.jit(jax.vmap(jax.random.split))
    for _ in range(80):
        actions = np.tile(np.float32([0.1, 0, -1]), (NUM_ENVS, 1))
        keys, states = vector._keys, vector._states
        pairs = split(keys)
        seen, _, rewards, terminated, truncated, info = step(pairs[:, 1], states, actions, params)
        observations, *others, vector_info = vector.step(actions)
        for mine, its in zip(others, (rewards, terminated, truncated), strict=True):
            np.testing.assert_array_equal(mine, its)
        done = np.asarray(terminated | truncated)
        np.testing.assert_array_equal(observations[~done], np.asarray(seen)[~done])
        assert ("final_obs" in vector_info) == done.any()
        for row in np.flatnonzero(done):
            ends += 1
            np.testing.assert_array_equal(
                vector_info["final_obs"][row], np.asarray(info["final_observation"])[row]
            )
            np.testing.assert_array_equal(observations[row, :5], [0, 0, 1, 0, 0])
            assert vector_info["episode_steps"][row] == 0
            assert vector_info["final_info"]["episode_steps"][row] == info["episode_steps"][row]
    assert ends > 0


def test_autoreset_mode_is_declared(vector):
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=2, **CONTINUOUS).num_envs == 2


def test_episode_statistics(vector):
    recorder = RecordEpisodeStatistics(vector)
    recorder.reset(seed=0)
    total, length = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, int)
    running = np.ones(NUM_ENVS, bool)
    while running.any():
        _, rewards, terminated, truncated, info = recorder.step(np.tile([0.0, 0.0, -1.0], (NUM_ENVS, 1)))
        total += rewards * running
        length += running
        # Gymnasium 1.3.0 leaves out the first step of every later episode in this mode.
        for row in np.flatnonzero(running & (terminated | truncated)):
            assert info["episode"]["r"][row] == pytest.approx(total[row])
            assert info["episode"]["l"][row] == length[row]
        running &= ~(terminated | truncated)


def test_an_episode_is_truncated_by_the_environment_itself():
    environment = gymnasium.make("jaxdodge/Dodge-v0")
    assert environment.spec.max_episode_steps == 1000
    assert not isinstance(environment, TimeLimit)
    vector = gymnasium.make_vec(
        "jaxdodge/Dodge-v0", num_envs=NUM_ENVS, **{**CONTINUOUS, "max_episode_steps": 3}
    )
    assert vector.spec.max_episode_steps == 3
    vector.reset(seed=0)
    steps = [vector.step(vector.action_space.sample()) for _ in range(4)]
    none, all_of_them = [False] * NUM_ENVS, [True] * NUM_ENVS
    assert [list(step[3]) for step in steps] == [none, none, all_of_them, none]
    assert not any(step[2].any() for step in steps)


def test_a_specification_makes_the_same_environment_again():
    """A response from before the action shows the limit one step later."""
    environment = gymnasium.make("jaxdodge/Dodge-v0", frames_per_step=2, response_frame=0)
    again = gymnasium.make(environment.spec)
    assert again.spec.max_episode_steps == environment.spec.max_episode_steps == 1001
    assert again.unwrapped.config == environment.unwrapped.config
    vector = gymnasium.make_vec(
        "jaxdodge/Dodge-v0", num_envs=3, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=7
    )
    other = gymnasium.make_vec(vector.spec)
    assert (other.num_envs, other.metadata["autoreset_mode"]) == (3, AutoresetMode.DISABLED)
    assert other.unwrapped.config == vector.config
    assert gymnasium.make("jaxdodge/Dodge-v0", max_episode_steps=9).spec.max_episode_steps == 9


def test_an_episode_ends_by_a_collision_and_goes_on_if_not_reset():
    environment = DodgeGymEnv(**{**CONTINUOUS, "max_episode_steps": 1000})
    environment.reset(seed=0)
    steps = run(environment, 120, (0, 0, -1))
    terminated = [step[2] for step in steps]
    first = terminated.index(True)
    assert terminated == [step >= first for step in range(120)]
    assert not any(step[3] for step in steps)
    assert steps[first][1] == -100
    assert steps[-1][4]["episode_steps"] == 120
    assert all(type(value) is int for value in steps[-1][4].values())
    _, info = environment.reset()
    assert (info["episode_steps"], info["projectile_count"] <= 1) == (0, True)
    assert not run(environment, 1)[0][2]


def test_seeds():
    one, other = DodgeGymEnv(**CONTINUOUS), DodgeGymEnv(**CONTINUOUS)
    first = one.reset(seed=5), run(one, 60), one.reset(), run(one, 60)
    assert equal(first, (other.reset(seed=5), run(other, 60), other.reset(), run(other, 60)))
    assert equal(first[:2], (one.reset(seed=5), run(one, 60)))
    assert not equal(first[:2], (one.reset(seed=6), run(one, 60)))
    assert not equal(first[:2], (DodgeGymEnv(**CONTINUOUS).reset(), run(one, 60)))


def test_reset_without_a_seed_keeps_the_spawn_timers_phase():
    environment = DodgeGymEnv(**CONTINUOUS)
    environment.reset(seed=3)
    run(environment, 10)

    def phase() -> int:
        timer = environment._states.game.spawn_timer
        return int(timer.seconds) * 10**9 + int(timer.nanoseconds)

    for _ in range(3):
        before = phase()
        environment.reset()
        assert phase() == (before + environment.config.frame_nanoseconds) % 100_000_000


def test_vector_seeds(vector):
    observations = vector.reset(seed=[4, 5, 6, 4])[0], [run_all(vector) for _ in range(60)]
    other = DodgeVectorEnv(NUM_ENVS, **CONTINUOUS)
    assert equal(observations, (other.reset(seed=[4, 5, 6, 4])[0], [run_all(other) for _ in range(60)]))
    last = observations[1][-1]
    assert equal(last[0], last[3])
    assert not equal(last[0], last[1])
    with pytest.raises(ValueError, match="seed: invalid value 2 seeds; expected 4"):
        vector.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="reset_mask: "):
        vector.reset(options={"reset_mask": np.ones(2, bool)})


def run_all(vector) -> np.ndarray:
    return vector.step(np.zeros((NUM_ENVS, 3)))[0]


def test_rounding_decides_as_on_the_server():
    """The server reads float32, where this number is 1."""
    environment = DodgeGymEnv(**CONTINUOUS)
    environment.reset(seed=0)
    environment.step([1.00000001, 0, 0])


def test_render_is_the_image_observation():
    fields = {**CONFIGURATIONS["image"], "image_grayscale": False}
    environment = DodgeGymEnv(render_mode="rgb_array", **fields)
    observation, _ = environment.reset(seed=0)
    for _ in range(40):
        np.testing.assert_array_equal(environment.render(), observation)
        observation = environment.step(environment.action_space.sample())[0]
    assert observation.shape == (36, 40, 3)
    vector = DodgeVectorEnv(NUM_ENVS, render_mode="rgb_array", **fields)
    observations, _ = vector.reset(seed=0)
    images = vector.render()
    assert isinstance(images, tuple)
    np.testing.assert_array_equal(np.stack(images), observations)


def test_render_has_a_size_of_its_own(vector):
    wide = DodgeGymEnv(render_mode="rgb_array", render_width=64, render_height=48, **CONTINUOUS)
    assert wide.reset(seed=0)[0].shape == (65,)
    assert wide.render().shape == (48, 64, 3)
    square = DodgeVectorEnv(NUM_ENVS, render_mode="rgb_array", render_width=48, **CONTINUOUS)
    square.reset(seed=0)
    assert [image.shape for image in square.render()] == [(48, 48, 3)] * NUM_ENVS
    with pytest.raises(ConfigError, match="render_width: invalid value 16; expected a whole number, 32 <="):
        DodgeGymEnv(render_width=16)


@pytest.mark.parametrize("duplicate", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_pickles_and_copies_continue_with_the_same_bits(duplicate, vector):
    single = gymnasium.make("jaxdodge/Dodge-v0", **CONTINUOUS)
    other = duplicate(single)
    assert equal(single.reset(seed=3), other.reset(seed=3))
    run(single, 20)
    other = duplicate(single)
    assert equal((run(single, 60), single.reset()), (run(other, 60), other.reset()))
    assert other.spec == single.spec
    vector.reset(seed=3)
    another = duplicate(vector)
    assert equal([run_all(vector) for _ in range(60)], [run_all(another) for _ in range(60)])
    assert equal(vector.reset(), another.reset())


def test_render_without_a_mode_warns(vector):
    vector.reset(seed=0)
    single = DodgeGymEnv(**CONTINUOUS)
    single.reset(seed=0)
    for environment in (vector, single):
        with pytest.warns(UserWarning, match="rgb_array"):
            assert environment.render() is None
