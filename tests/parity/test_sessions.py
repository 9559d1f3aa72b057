"""The API sessions of the real server: all pass, and every check has something to check in them."""

import numpy as np
import pytest
from api_sessions import IMAGES, VECTORS, followed, real_session

from jaxdodge.parity.check_session import check_session
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


@pytest.mark.parametrize("name", VECTORS)
def test_rewards_and_flags_are_exact(name):
    """No reward, flag or count of a step is excused: none of the torn responses is torn there."""
    arrays, findings = real_session(name).arrays, followed(name).findings
    assert all("observation[3:5]" in text for text in findings.torn.values())
    steps = arrays["kind"] == STEP
    assert steps.sum() > 150
    assert len(np.unique(arrays["reward"][steps])) > 5
    assert arrays["done"].sum() >= 1
    assert arrays["projectile_count"].max() <= OBSERVED_PROJECTILES, "so that every reward can be computed"


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_is_checked_of_nothing(name):
    session, found = real_session(name), followed(name)
    fits = [interval.fit for interval in found.intervals if interval.fit is not None]
    assert len(fits) >= 0.6 * len(session)
    assert max(fit.error for fit in fits) < 0.8, "of what rounding allows"
    assert len(found.throws) >= 5
    assert len(found.moved) >= 0.4 * len(session)
    assert found.handled.resets[-1] >= 2
    assert np.ptp(session.arrays["observation"][:, 0]) > 0.5
    assert found.findings.values > session.arrays["observation"].size


def test_every_check_has_data_in_some_session():
    """Bounces, indicators and removals are not in every session, but are in some."""
    bounced = indicators = removed = 0
    for name in VECTORS:
        session, found = real_session(name), followed(name)
        observation = session.arrays["observation"]
        table = observation[:, 5:65].reshape(-1, OBSERVED_PROJECTILES, 6)
        for interval in found.intervals:
            for before, after in interval.kept:
                bounced += table[interval.end - 1, before, 3] != table[interval.end, after, 3]
            again = found.handled.reset_around(interval.end - 1, interval.end)
            removed += 0 if again else len(interval.gone)
        indicators += int(np.any(observation[:, 65:] != 0, axis=1).sum())
    assert bounced >= 50
    assert indicators >= 50
    assert removed >= 5


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
    kind, received = session.arrays["kind"], session.arrays["received_s"]
    counted = [
        (interval.fit, received[interval.end] - received[interval.end - 1])
        for interval in found.intervals
        if interval.fit is not None and kind[interval.end] == kind[interval.end - 1] == STEP
    ]
    game, wall = (sum(each) for each in zip(*((fit.seconds, wall) for fit, wall in counted), strict=True))
    assert game == pytest.approx(wall, rel=0.003)
    timing = measure(session, found)
    assert timing.mean_frames_per_step == pytest.approx(
        1 / timing.frame_seconds * wall / len(counted), rel=0.005
    )
    # At the nominal fps, too, except that this server kept 225 of its 240 frames per second.
    assert timing.mean_frames_per_step == pytest.approx(
        session.config.fps / timing.steps_per_second, rel=0.07 if name == "grpc240_thrower" else 0.05
    )


@pytest.mark.parametrize("name", ["grpc60_slow", "http60_image64"])
def test_the_result_says_what_was_checked(name):
    session, result = real_session(name), check_session(real_session(name))
    assert result.difference == ""
    assert result.agreement.startswith(f"agrees: {len(session)} responses, 0 torn")
    assert result.images == (len(session) if "image" in session.arrays else 0)
    assert ("frames per step" in result.agreement) == (name == "grpc60_slow")
