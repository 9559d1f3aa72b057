"""What the scripted policies do in every action space."""

import numpy as np
import pytest

from jaxdodge.bevy.policies import PERIOD, ScriptedPolicy, runs_right, simulated
from jaxdodge.config import ACTION_SPACES, GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS

NOTHING = np.zeros(65, np.float32)


def play(name: str, space: str, seed: int = 0, steps: int = 3 * PERIOD) -> np.ndarray:
    policy = ScriptedPolicy(name, GameConfig(action_space_type=space), seed)
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
    sides = [directions(play("strafe", space, seed, 1), space)[0].tolist() for seed in range(9)]
    assert sorted({*map(tuple, sides)}) == [(-1, 0), (1, 0)]
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


@pytest.mark.parametrize(
    ("x", "vx", "begins_right", "right"),
    [
        (0.0, 0.0, True, True),
        (0.0, 0.0, False, False),
        (0.0, 5.0, False, True),
        (3.5, 5.0, True, True),
        (3.6, 5.0, True, False),
        # It has turned, which shows a step later.
        (4.2, -5.0, True, False),
        (3.4, -5.0, True, False),
        (-3.5, -5.0, True, False),
        (-3.6, -5.0, False, True),
    ],
)
def test_where_strafe_turns(x, vx, begins_right, right):
    assert bool(runs_right(np.float32(x), np.float32(vx), begins_right)) == right


def test_strafe_needs_to_know_where_the_player_is():
    game = GameConfig(action_space_type="basic_3d", observation_mode="topdown")
    with pytest.raises(ConfigError, match="observation_mode: invalid value 'topdown' for strafe"):
        ScriptedPolicy("strafe", game, 0)
    with pytest.raises(ConfigError, match="observation_mode: invalid value 'topdown' for strafe"):
        simulated("strafe", game, 2, 0)
    ScriptedPolicy("circle", game, 0)
