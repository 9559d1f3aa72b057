"""The API sessions of the real server: all pass, and every check has something to check in them."""

import numpy as np
import pytest
from api_sessions import IMAGES, VECTORS, followed, real_session

from jaxdodge.parity.check_session import check_session
from jaxdodge.parity.rules import wrong_rules
from jaxdodge.parity.timing import measure
from jaxdodge.recordings.session import STEP
from jaxdodge.sim.publish import OBSERVED_PROJECTILES

# Torn responses of the recordings: one, of which the velocity is of the publication after.
TORN = {"http60_slow": [53]}


@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
def test_a_real_session_passes(name):
    findings = followed(name).findings
    assert findings.differences == []
    assert sorted(findings.torn) == TORN.get(name, [])
    assert followed(name).lockstep == ""


@pytest.mark.parametrize("name", VECTORS)
def test_rewards_and_flags_are_exact(name):
    """No reward, flag or count of a step is excused: none of the torn responses is torn there."""
    arrays, findings = real_session(name).arrays, followed(name).findings
    assert all("observation[3:5]" in text for text in findings.torn.values())
    steps = arrays["kind"] == STEP
    assert steps.sum() > 130
    assert len(np.unique(arrays["reward"][steps])) > 5
    assert arrays["done"].any() or name == "grpc60_policy_13_episodes"
    assert arrays["projectile_count"].max() <= OBSERVED_PROJECTILES, "so that every reward can be computed"


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_is_checked_of_nothing(name):
    session, found = real_session(name), followed(name)
    assert np.count_nonzero(~np.isnan(found.time.seconds)) >= 0.5 * len(session)
    assert 0.05 < found.error < 0.5, "of what rounding allows"
    assert len(found.throws) >= 4
    # With more than two actions between responses the way does not tell the time with each.
    assert len(found.moved) >= (0 if name == "grpc60_slower" else 0.08) * len(session)
    assert found.handled.resets[-1] >= 2
    assert np.ptp(session.arrays["observation"][:, 0]) > 0.5 or name == "grpc60_slower"
    assert found.findings.values > session.arrays["observation"].size


def test_every_check_has_data_in_some_session():
    """Bounces, indicators and jumps are not in every session, but are in some."""
    bounced = np.concatenate([followed(name).flights.bounces for name in VECTORS])
    assert np.count_nonzero(bounced == 1) >= 9000
    assert np.count_nonzero(bounced == 2) >= 3
    observations = [real_session(name).arrays["observation"] for name in VECTORS]
    assert sum(int(np.any(each[:, 65:] != 0, axis=1).sum()) for each in observations) >= 1000
    assert sum(int((each[:, 2] > 1).sum()) for each in observations) >= 1000


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_followed(name):
    """Discs of player and projectiles move, and rewards are of all three kinds."""
    session = real_session(name)
    images, rewards = session.arrays["image"], session.arrays["reward"][session.arrays["kind"] == STEP]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 50
    assert (rewards == np.float32(session.config.collision_penalty)).sum() >= 1
    assert (rewards > np.float32(session.config.survival_reward)).sum() >= 1
    assert followed(name).findings.values > images.size


@pytest.mark.parametrize("name", VECTORS)
def test_frames_are_those_of_the_clock(name):
    """The time of the frames that were fitted is the time that passed between the answers.

    The client's clock and the fitted flights know nothing of each other.
    """
    session, found = real_session(name), followed(name)
    kind, received, time = session.arrays["kind"], session.arrays["received_s"], found.time
    counted = (kind[1:] == STEP) & (kind[:-1] == STEP) & ~np.isnan(time.seconds[1:])
    game, wall = time.seconds[1:][counted].sum(), np.diff(received)[counted].sum()
    # A machine that stalls makes publications old.
    assert game == pytest.approx(wall, rel=0.06 if name == "http240_fast_2" else 0.02)
    timing = measure(session, found)
    assert timing.mean_frames_per_step == pytest.approx(timing.frames_by_clock, rel=0.02)
    # The game sleeps a little too long after each frame, which at 240 frames per second is much.
    if session.config.fps <= 60 and name != "http60_slow_3":
        assert 1 / timing.frame_seconds == pytest.approx(session.config.fps, rel=0.03)


@pytest.mark.parametrize("name", ["grpc60_slow", "http60_image64"])
def test_the_result_says_what_was_checked(name):
    session, result = real_session(name), check_session(real_session(name))
    assert result.difference == ""
    assert result.agreement.startswith(f"agrees: {len(session)} responses, 0 torn")
    assert result.images == (len(session) if "image" in session.arrays else 0)
    assert ("frames per step" in result.agreement) == (name == "grpc60_slow")


@pytest.mark.parametrize("name", VECTORS)
def test_no_rule_of_a_real_session_looks_wrong(name):
    found = followed(name)
    assert wrong_rules(real_session(name), found.handled, found.flights, found.clock, found.throws) == []


@pytest.mark.parametrize("name", ["grpc60_fast", "grpc60_discrete", "grpc60_level1_tilt"])
def test_resets_and_ends_of_the_sessions_that_predict_strafe(name):
    """As `docs/servers.md` says: one frame from a hit to done, two from there to the first step."""
    steps = measure(real_session(name), followed(name)).step_timings
    assert steps.frames_to_done == 1
    assert {*steps.frames_before_reset} == {1}
    assert {*steps.frames_after_reset} == {0}
