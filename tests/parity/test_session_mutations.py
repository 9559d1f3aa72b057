"""Sessions of the real server that were changed, or a simulator that was:
the check says so, and where.
"""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from api_sessions import RECORDINGS, changed, followed, real_session
from session_mutations import OF_ALL, OF_IMAGES, OF_VECTORS

from jaxdodge.parity.check_session import check_session
from jaxdodge.recordings.session import STEP, checked_session
from jaxdodge.sim import systems

# Short ones; the others show the same.
CASES = [
    *((name, mutation) for mutation in OF_ALL for name in ("http60_slow", "grpc60_image84")),
    *(("grpc60_slow", mutation) for mutation in OF_VECTORS),
    *((name, mutation) for mutation in OF_IMAGES for name in ("grpc60_image84", "http60_image64")),
]

# Responses of http60_slow that show a mutation.
NOTICED = {
    "penalty -99 believed": 11,
    "observation one later": 2,
    "player 1 % faster": 3,
    "throws 1 % rarer": 84,
    "throws 1 % more often": 101,
    "angle 5 % smaller": 30,
    "projectiles a frame later": 14,
}


def assert_caught(session, *found: str) -> None:
    """There is a difference, and it is of one of these kinds."""
    difference = check_session(session).difference
    assert difference, "agrees"
    assert any(each in difference for each in found), difference


@pytest.mark.parametrize(("mutation", "responses"), NOTICED.items())
def test_so_many_responses_show_it(mutation, responses):
    """The table of `parity/README.md`."""
    session = real_session("http60_slow")
    change, _, configure = (OF_ALL | OF_VECTORS)[mutation]
    wrong = changed(session, lambda arrays: change(arrays, session), **configure(session))
    arrays = {name: array[:responses] for name, array in wrong.arrays.items()}
    assert check_session(checked_session(wrong.path, wrong.meta, arrays)).difference


@pytest.mark.slow
def test_words_do_not_depend_on_threads():
    """The same file gives the same words with any number of threads."""
    files = [RECORDINGS / f"api_{name}.npz" for name in ("http60_slow", "http240_fast_2")]
    words = set()
    for threads in ("1", "2"):
        flags = f"--xla_cpu_multi_thread_eigen={'true' if threads == '2' else 'false'}"
        done = subprocess.run(
            [sys.executable, "-m", "jaxdodge.parity", "check", *map(str, files)],
            env=os.environ | {"OMP_NUM_THREADS": threads, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        # Without the seconds, before the result.
        words.add(re.sub(r"\d+\.\d+  agrees", "agrees", done.stdout).rpartition(";")[0])
    assert len(words) == 1


@pytest.mark.parametrize(("name", "mutation"), CASES)
def test_a_changed_session(name, mutation):
    change, found, configure = (OF_ALL | OF_VECTORS | OF_IMAGES)[mutation]
    session = real_session(name)
    assert_caught(changed(session, lambda arrays: change(arrays, session), **configure(session)), *found)


@pytest.mark.parametrize(
    ("slot", "change"),
    [("height", (7, 1e-3)), ("speed", (8, 1e-6)), ("fall", (10, 1e-3)), ("aside", (5, 1e-3))],
)
def test_a_single_value_of_a_projectile(slot, change):
    """A millimetre, a thousandth of a m/s, or, of what never changes in
    flight, a unit in the last place.
    """
    session = real_session("http60_slow")
    kind = session.arrays["kind"]
    flights = followed("http60_slow").flights
    first = (flights.before == 0) & (flights.after == 0) & (flights.bounces == 0)
    fitted = set(flights.end[first].tolist())
    at = next(at for at in sorted(fitted) if at > 60 and at + 1 in fitted and kind[at] == STEP)
    index, by = change

    def moved(arrays):
        arrays["observation"][at, index] += np.float32(by * max(1, abs(arrays["observation"][at, index])))

    assert_caught(changed(session, moved), f"response {at}, ", f"response {at + 1}, ")


@pytest.fixture
def simulator_with(monkeypatch):
    """Change a constant of the simulator."""

    def change(name: str, value: float) -> None:
        monkeypatch.setattr(systems, name, np.float32(value))
        jax.clear_caches()

    yield change
    monkeypatch.undo()
    jax.clear_caches()


@pytest.mark.parametrize(
    ("constant", "value", "found"),
    [
        ("PROJECTILE_GRAVITY", 9.81, ("position z", "velocity z", "thrown")),
        ("RESTITUTION", 0.69, ("position z", "velocity z")),
        ("FRICTION", 1.0, ("gone",)),
    ],
)
def test_another_simulator(constant, value, found, simulator_with):
    """Its flights miss the recorded ones by far more than the bound, at
    every bounce and in every fall.
    """
    simulator_with(constant, value)
    assert_caught(real_session("http60_slow"), *found)
    rule = constant.removeprefix("PROJECTILE_").lower()
    difference = check_session(real_session("http60_slow")).difference
    assert re.search(rf"looks wrong: {rule} [\d.]+ to [\d.]+, simulated {value:g}$", difference), difference


@pytest.mark.parametrize(
    ("rule", "value"),
    [("player_speed", 5.05), ("projectile_spawn_interval", 0.505), ("spawn_angle_degrees", 28.5)],
)
def test_the_wrong_rule_is_named(rule, value):
    session = changed(real_session("grpc60_slow"), **{rule: value})
    assert f"looks wrong: {rule} " in check_session(session).difference
