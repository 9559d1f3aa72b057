"""What the Gymnasium environments refuse: one clear line, and nothing has changed."""

import numpy as np
import pytest
from gym_envs import CONTINUOUS, DISCRETE, NUM_ENVS, equal, run
from gymnasium.error import ResetNeeded

import jaxdodge
from jaxdodge.sim.gym import DodgeGymEnv, DodgeVectorEnv


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            [1.5, 0, 0],
            r"action \(vx\): invalid value 1.5; expected 3 numbers \(vx, vy, sprint\), -1 <= v.*",
        ),
        ([0, np.nan, 0], r"action \(vy\): invalid value nan; .*"),
        ([0, 0, -np.inf], r"action \(sprint\): invalid value -inf; .*"),
        ([0, 0, 1e300], r"action \(sprint\): invalid value inf; .*"),
        ([0, 0], r"action: invalid value int64 of shape \(2,\); .*"),
        ([[0, 0, 0]], r"action: invalid value int64 of shape \(1, 3\); .*"),
        (0.5, r"action: invalid value 0.5; .*"),
        (None, r"action: invalid value None; .*"),
        ("left", r"action: invalid value 'left'; .*"),
        (["a", "b", "c"], r"action: invalid value <U1 of shape \(3,\); .*"),
        ([True, False, True], r"action: invalid value bool of shape \(3,\); .*"),
        ([[0], [0, 1], 0], r"action: rows of different lengths; .*"),
    ],
)
def test_refused_action(action, message):
    environment = DodgeGymEnv(**CONTINUOUS)
    environment.reset(seed=0)
    other = DodgeGymEnv(**CONTINUOUS)
    other.reset(seed=0)
    with pytest.raises(ValueError, match=f"^{message}$"):
        environment.step(action)
    assert equal(run(environment, 1), run(other, 1)), "a refused action must change nothing"


@pytest.mark.parametrize("action", [5, -1, 1.0, True, [1], None, np.float32(2)])
def test_refused_discrete_action(action):
    environment = DodgeGymEnv(**DISCRETE)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action: invalid value .*; expected a whole number, 0 <= v.* 4$"):
        environment.step(action)
    environment.step(np.array(4))


def test_refused_vector_actions(vector):
    vector.reset(seed=0)
    actions = np.zeros((NUM_ENVS, 3))
    actions[2, 1] = -1.1
    with pytest.raises(
        ValueError, match=r"^action \(environment 2, vy\): invalid value -1.1\d*; expected for each"
    ):
        vector.step(actions)
    with pytest.raises(ValueError, match=r"^action: invalid value float64 of shape \(3, 3\); .*"):
        vector.step(actions[:3])
    discrete = DodgeVectorEnv(NUM_ENVS, **DISCRETE)
    discrete.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"^action \(environment 3\): invalid value 9; expected for each of 4 "
    ):
        discrete.step([0, 1, 2, 9])
    discrete.step([0, 1, 2, 4])


@pytest.mark.parametrize("make", [DodgeGymEnv, DodgeVectorEnv])
def test_refused_configurations_and_a_missing_reset(make):
    with pytest.raises(jaxdodge.ConfigError, match=r"player_sped: no such field .* did you mean player_"):
        make(player_sped=3)
    with pytest.raises(jaxdodge.ConfigError, match="level: invalid value 3"):
        make(level=3)
    with pytest.raises(jaxdodge.ConfigError, match="render_mode: invalid value 'human'; expected rgb_array"):
        make(render_mode="human")
    environment = make(render_mode="rgb_array", **CONTINUOUS)
    with pytest.raises(ResetNeeded):
        environment.step(environment.action_space.sample())
    with pytest.raises(ResetNeeded):
        environment.render()


def test_refused_autoreset_mode():
    expected = "AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED"
    with pytest.raises(jaxdodge.ConfigError) as error:
        DodgeVectorEnv(2, autoreset_mode="never")
    assert str(error.value) == f"autoreset_mode: invalid value 'never'; expected {expected}"


@pytest.mark.parametrize("num_envs", [0, -1, 2.0, True])
def test_refused_number_of_envs(num_envs):
    with pytest.raises(jaxdodge.ConfigError, match=r"num_envs: invalid value .*; expected a whole number, 1"):
        DodgeVectorEnv(num_envs)
