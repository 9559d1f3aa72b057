"""Sessions of simulated servers with random timing: a right one always
passes, a wrong one never does.
"""

import random
import re

import numpy as np
import pytest
from api_sessions import changed
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from session_mutations import OF_ALL, OF_VECTORS
from simulated_server import order_with, simulated_session

from jaxdodge.config import GameConfig
from jaxdodge.parity.check_session import check_session
from jaxdodge.sim.order import draw_order

STEPS = 60
BEFORE = order_with("handle_commands", "publish_state", 1)
IMAGE = {"observation_mode": "topdown", "image_obs_width": 64, "image_obs_height": 48}
GAMES = st.fixed_dictionaries(
    {
        "level": st.sampled_from([1, 2]),
        "action_space_type": st.sampled_from(["discrete", "basic_3d", "basic_4d_jump", "tilt_5d", "full_6d"]),
        "observation_mode": st.sampled_from(["standard", "with_thrower"]),
        "spawn_angle_degrees": st.sampled_from([20.0, 60.0, 120.0, 180.0]),
        "projectile_spawn_interval": st.sampled_from([0.1, 0.3, 0.5, 2.0]),
        "thrower_delay_seconds": st.sampled_from([0.05, 0.5, 3.0]),
        "player_speed": st.sampled_from([1.0, 5.0, 20.0]),
        "dodge_bonus_threshold": st.sampled_from([2.0, 6.0]),
    }
)
TIMINGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "transport": st.sampled_from(["grpc", "http"]),
        "jitter": st.sampled_from([0.0, 0.02, 0.1, 0.2]),
        "order": st.one_of(st.none(), st.integers(0, 99).map(lambda seed: draw_order(random.Random(seed)))),
        "still": st.sampled_from([False, False, False, True]),
        "reset_share": st.sampled_from([0.0, 0.05]),
        "pause_share": st.sampled_from([0.0, 0.03]),
        "torn_share": st.sampled_from([0.0, 0.0, 0.005]),
    }
)
# Shrinking would take longer than all the rest.
FEW = settings(derandomize=True, deadline=None, max_examples=4, phases=[Phase.generate])


RIGHT = {
    "fields": GAMES,
    "fps": st.sampled_from([30.0, 60.0, 120.0, 144.0, 240.0]),
    "frames": st.integers(0, 12),
    "timing": TIMINGS,
}


def assert_passes(fields, fps: float, frames: int, timing) -> None:
    """A session whose client thinks for so many frames."""
    # Not covered yet: an indicator that comes and goes between two responses. Its throw can be
    # taken for that of another one, which is a false alarm.
    if fields["observation_mode"] == "with_thrower" and fields["thrower_delay_seconds"] * fps <= 2 * frames:
        return
    config = GameConfig(fps=fps).configure(**fields)
    session = simulated_session(config, steps=STEPS, think_seconds=frames / fps, **timing).session
    assert check_session(session).difference == ""


@FEW
@given(**RIGHT)
def test_a_right_session_passes(fields, fps, frames, timing):
    assert_passes(fields, fps, frames, timing)


@pytest.mark.slow
@pytest.mark.nightly
@settings(FEW, max_examples=40)
@given(more=st.booleans(), **RIGHT)
def test_many_right_sessions_pass(more, fields, fps, frames, timing):
    """`more` only makes them other examples than those of the test above."""
    assert_passes(fields, fps, frames, timing)


@settings(FEW, max_examples=2)
@given(timing=TIMINGS, grayscale=st.booleans())
def test_right_images_pass(timing, grayscale):
    config = GameConfig().configure(level=2, image_grayscale=grayscale, **IMAGE)
    session = simulated_session(config, steps=STEPS, think_seconds=0.05, **timing).session
    assert check_session(session).difference == ""


HARD = {
    "removals deferred beyond the publication of a reset": (
        {"level": 1, "projectile_spawn_interval": 0.2, "fps": 30.0},
        {"seed": 7, "think_seconds": 0.1, "still": True, "order": BEFORE},
    ),
    "a first reset that may have been handled or not": (
        {"level": 2, "projectile_spawn_interval": 0.2, "fps": 60.0},
        {"seed": 9, "think_seconds": 0.1, "jitter": 0.005},
    ),
    "landed and jumped again between two responses": (
        {"level": 1, "action_space_type": "full_6d", "fps": 60.0},
        {"seed": 19, "transport": "http", "think_seconds": 0.12, "reset_share": 0.0},
    ),
    "jumps, several commands in a frame, another order in each": (
        {"level": 2, "action_space_type": "basic_4d_jump", "fps": 30.0},
        {"seed": 515, "transport": "http", "order": None, "reset_share": 0.1},
    ),
    "bounces in long intervals": (
        {"level": 2, "spawn_angle_degrees": 30.0, "fps": 60.0},
        {"seed": 3, "transport": "http", "think_seconds": 0.3, "jitter": 0.1, "pause_share": 0.05},
    ),
    "an indicator that aimed long ago": (
        {"level": 2, "observation_mode": "with_thrower", "projectile_spawn_interval": 0.2, "fps": 144.0},
        {"seed": 5, "transport": "http", "think_seconds": 0.1},
    ),
    "a torn response between two resets": (
        {"level": 1, "action_space_type": "tilt_5d", "projectile_spawn_interval": 0.5, "player_speed": 1.0}
        | {"dodge_bonus_threshold": 6.0, "fps": 30.0},
        {"seed": 1088, "transport": "http", "think_seconds": 0.4, "jitter": 0.2, "order": None}
        | {"reset_share": 0.05, "torn_share": 0.005},
    ),
    "nothing flies": ({"level": 1, "projectile_spawn_interval": 60.0, "fps": 60.0}, {"seed": 1}),
}


@pytest.mark.parametrize(("fields", "timing"), HARD.values(), ids=HARD)
def test_right_sessions_that_are_hard_to_follow(fields, timing):
    fps = fields["fps"]
    config = GameConfig(fps=fps).configure(**{name: fields[name] for name in fields if name != "fps"})
    assert check_session(simulated_session(config, steps=STEPS, **timing).session).difference == ""


def test_a_server_that_is_faster_than_the_clock_is_called_so():
    """As one in lockstep is: throws are due by the clock."""
    config = GameConfig().configure(level=2, spawn_angle_degrees=30.0)
    session = simulated_session(config, steps=120, think_seconds=0.1).session
    assert check_session(session).difference == ""
    arrays = session.arrays
    waits = arrays["received_s"] - arrays["sent_s"]
    for name in ("sent_s", "received_s"):
        arrays[name][:] /= 10
    said = r"{}; expected a server in real time, not in lockstep, because .* are due: response \d+, throw"
    at_once = said.format(r"a reset answered after 2\.\d ms")
    assert re.match(at_once, check_session(session).difference)
    arrays["sent_s"][:] = arrays["received_s"] - waits
    fast = said.format(r"\d+\.\d s of the game in \d\.\d s of the client's clock")
    assert re.match(fast, check_session(session).difference)


def test_torn_responses_are_counted_and_not_refused():
    """Responses of which the observation is of one publication and the rest of the next."""
    config = GameConfig().configure(level=2, action_space_type="basic_3d", spawn_angle_degrees=20)
    simulated = simulated_session(config, 5, steps=300, think_seconds=0.05, torn_share=0.01)
    result = check_session(simulated.session)
    assert result.difference == ""
    # Of most, all the parts that differ are equal in both publications.
    assert len(simulated.torn) >= 2


MUTATIONS = ("penalty -99 believed", "observation one later", "observation one before", "speed 5.01 believed")
MUTATIONS += ("rewards an ulp more", "actions one later", "count of two more", "a step counted twice")


@pytest.mark.parametrize("mutation", MUTATIONS)
@settings(FEW, max_examples=1)
@given(
    seed=st.integers(0, 100), transport=st.sampled_from(["grpc", "http"]), jitter=st.sampled_from([0.0, 0.03])
)
def test_a_wrong_session_never_does(mutation, seed, transport, jitter):
    config = GameConfig().configure(level=2, action_space_type="basic_3d", spawn_angle_degrees=15)
    session = simulated_session(
        config, seed, steps=90, transport=transport, think_seconds=0.08, jitter=jitter
    ).session
    assert np.any(session.arrays["done"])
    change, _, configure = (OF_ALL | OF_VECTORS)[mutation]
    wrong = changed(session, lambda arrays: change(arrays, session), **configure(session))
    assert check_session(wrong).difference
