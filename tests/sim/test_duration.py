"""Durations and timers against Python's integers."""

import jax.numpy as jnp
import numpy as np
import pytest
from fast_compilation import users_jit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxdodge.sim.duration import Duration, tick_once, tick_repeating

SECOND = 10**9
LONGEST, LONGEST_FRAME = 60 * SECOND, 250_000_000
once, repeating = users_jit(tick_once), users_jit(tick_repeating)
frames = st.one_of(st.integers(0, LONGEST_FRAME), st.sampled_from([0, 1, 16_666_667, LONGEST_FRAME]))
durations = st.one_of(
    st.integers(1, LONGEST),
    st.integers(1, 1000),
    st.sampled_from([1, 2, SECOND - 1, SECOND, SECOND + 1, 2 * SECOND, LONGEST]),
)


def made(nanoseconds: int) -> Duration:
    return Duration(*map(np.int32, divmod(nanoseconds, SECOND)))


def counted(duration: Duration) -> int:
    assert 0 <= int(duration.nanoseconds) < SECOND
    return int(duration.seconds) * SECOND + int(duration.nanoseconds)


@st.composite
def timers(draw):
    """Duration, elapsed time below it (often near its end) and frame."""
    duration = draw(durations)
    elapsed = draw(st.one_of(st.integers(0, duration - 1), st.integers(max(0, duration - 10), duration - 1)))
    near = st.integers(max(0, duration - elapsed - 2), max(0, duration - elapsed + 2))
    return duration, elapsed, draw(st.one_of(frames, near.filter(lambda frame: frame <= LONGEST_FRAME)))


@settings(derandomize=True, deadline=None, max_examples=500)
@given(timer=timers())
@example(timer=(1, 0, LONGEST_FRAME))
@example(timer=(LONGEST, LONGEST - 1, LONGEST_FRAME))
@example(timer=(SECOND - 1, SECOND - 2, LONGEST_FRAME))
@example(timer=(SECOND, SECOND - 1, 1))
@example(timer=(7, 6, 0))
def test_a_repeating_timer_takes_its_remainder(timer):
    duration, elapsed, frame = timer
    after, fired = repeating(made(elapsed), made(duration), np.int32(frame))
    total = elapsed + frame
    assert bool(fired) is (total >= duration)
    assert counted(after) == (total % duration if total >= duration else total)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(timer=timers())
@example(timer=(1, 0, LONGEST_FRAME))
@example(timer=(10 * SECOND, 10 * SECOND - 1, 1))
def test_a_one_shot_timer_stops_at_its_duration(timer):
    duration, elapsed, frame = timer
    after, fired = once(made(elapsed), made(duration), np.int32(frame))
    assert bool(fired) is (elapsed + frame >= duration)
    assert counted(after) == min(elapsed + frame, duration)


@pytest.mark.parametrize("nanoseconds", [0, 1, SECOND - 1, SECOND, 59 * SECOND + 5])
def test_a_duration_from_nanoseconds(nanoseconds):
    assert counted(Duration.from_nanoseconds(nanoseconds)) == nanoseconds


calculate = users_jit(
    lambda a, b, frame: (a.plus(frame), a.minus(b), a.at_least(b), b.at_least(a), a.as_seconds())
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(pair=st.tuples(durations, durations), same=st.booleans(), frame=frames)
def test_arithmetic_of_durations(pair, same, frame):
    more, less = (pair[0], pair[0]) if same else (max(pair), min(pair))
    added, difference, at_least, at_most, seconds = calculate(made(more), made(less), np.int32(frame))
    assert counted(added) == more + frame
    assert counted(difference) == more - less
    assert bool(at_least)
    assert bool(at_most) is (more == less)
    whole, rest = divmod(more, SECOND)
    assert seconds == np.float32(whole) + np.float32(rest) / np.float32(1e9)


def test_tables_of_timers_tick_one_by_one():
    durations = Duration(jnp.int32([0, 0, 2, 60]), jnp.int32([1, 130_000_000, 5, 0]))
    elapsed = Duration(jnp.int32([0, 0, 1, 59]), jnp.int32([0, 7, 999_999_999, 1]))
    after, fired = repeating(elapsed, durations, np.int32(250_000_000))
    assert fired.tolist() == [True, True, True, False]
    assert after.seconds.tolist() == [0, 0, 0, 59]
    assert after.nanoseconds.tolist() == [0, 120_000_007, 249_999_994, 250_000_001]
