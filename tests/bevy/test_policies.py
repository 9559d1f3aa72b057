"""What the scripted policies do in every action space."""

import numpy as np
import pytest

from jaxdodge.bevy.policies import PERIOD, ScriptedPolicy
from jaxdodge.config import ACTION_SPACES
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS

NOTHING = np.zeros(65, np.float32)


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
