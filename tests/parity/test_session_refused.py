"""Files of API sessions that cannot be checked: one line naming the
file and what is wrong with it.
"""

import json

import numpy as np
import pytest
from api_sessions import RECORDINGS

from jaxdodge.parity.check import check
from jaxdodge.recordings.npz import RecordingError
from jaxdodge.recordings.session import RESET

ARRAYS = ("kind", "sent_s", "received_s", "action", "observation", "reward", "done", "truncated")
ARRAYS += ("episode_steps", "projectile_count", "image")


@pytest.fixture
def session_with(tmp_path):
    """Write a changed copy of a session of images and return its path."""

    def make(change=lambda arrays, meta: None, name: str = "http60_image64"):
        with np.load(RECORDINGS / f"api_{name}.npz") as recording:
            arrays = {key: array.copy() for key, array in recording.items()}
        meta = json.loads(str(arrays.pop("meta")))
        change(arrays, meta)
        path = tmp_path / "session.npz"
        np.savez(path, meta=np.array(json.dumps(meta)), **arrays)
        return path

    return make


def assert_refused(path, reason: str) -> None:
    with pytest.raises(RecordingError) as caught:
        check(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: damaged: ")
    assert "\n" not in message
    assert reason in message


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array(session_with, name):
    assert_refused(session_with(lambda arrays, meta: arrays.pop(name)), f"array {name} is missing")


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_type_or_shape(session_with, name):
    def put(change):
        return session_with(lambda arrays, meta: arrays.update({name: change(arrays[name])}))

    assert_refused(put(lambda array: array.astype(np.complex64)), f"{name} is complex64[")
    assert_refused(put(lambda array: array[..., None]), f"{name} is ")
    if name != "kind":  # It says how many responses there are.
        assert_refused(put(lambda array: array[:-1]), f"{name} is ")


def entry(name: str, value, at=7):
    def change(arrays, meta):
        arrays[name][at] = value

    return change


def put(**fields):
    return lambda arrays, meta: meta.update(fields)


def configured(**fields):
    return lambda arrays, meta: meta["configure"].update(fields)


def cut(arrays, meta):
    for name in arrays:
        arrays[name] = arrays[name][:0]


def resets_alone(arrays, meta):
    assert arrays["kind"][0] == RESET
    for name in arrays:
        arrays[name] = arrays[name][:1]


VALUES = {
    "kind": (entry("kind", 2), "kind of response 7 is 2; expected 0 (reset) or 1 (step)"),
    "NaN as a time": (entry("sent_s", np.nan), "sent_s, received_s of response 7"),
    "sent before the answer before": (entry("sent_s", 0.0), "times that do not run backwards"),
    "answered before sent": (entry("received_s", 0.0), "times that do not run backwards"),
    "NaN as an action": (entry("action", np.nan), "action of response 7"),
    "an action out of range": (entry("action", 1.5), "action of response 7"),
    "an action of a reset": (entry("action", 0.0, 0), "action of response 0"),
    "NaN as a reward": (entry("reward", np.nan), "reward of response 7 is nan; expected a finite number"),
    "steps": (entry("episode_steps", -1), "episode_steps of response 7 is -1; expected not negative"),
    "count": (entry("projectile_count", -1), "projectile_count of response 7 is -1; expected not negative"),
    "nothing": (cut, "it has no responses"),
    "resets alone": (resets_alone, "it has no step"),
    "transport": (put(transport=3), "meta: transport: invalid value 3; expected a text"),
    "no transport": (lambda arrays, meta: meta.pop("transport"), "meta: transport: invalid value None"),
    "fps": (put(fps=-60), "meta: fps: invalid value -60"),
    "no fps": (lambda arrays, meta: meta.pop("fps"), "meta: fps: invalid value None"),
    "thinking": (put(think_seconds=-1), "meta: think_seconds: invalid value -1"),
    "configure": (put(configure=[1]), "meta: configure: invalid value [1]; expected a mapping"),
    "an unknown field": (configured(colour="red"), "colour"),
    "a field of no server": (configured(frames_per_step=2), "frames_per_step: no field of a server"),
    "a refused value": (configured(player_speed=-1), "player_speed"),
    "images of another size": (configured(image_obs_width=32), "image is uint8[200, 64, 64, "),
    "images of another mode": (configured(observation_mode="standard"), "observation is float32[200, 0]"),
}


@pytest.mark.parametrize(("change", "reason"), VALUES.values(), ids=VALUES)
def test_a_damaged_session(session_with, change, reason):
    assert_refused(session_with(change), reason)


def test_a_number_that_is_none_in_an_observation(session_with):
    change = entry("observation", np.inf, (7, 3))
    assert_refused(session_with(change, "http60_slow"), "observation of response 7; expected finite numbers")


def test_the_command_goes_on_with_the_others(session_with, parity):
    bad, good = session_with(entry("kind", 2)), RECORDINGS / "api_http60_image64.npz"
    status, out, errors = parity("check", bad, good)
    assert status == 2
    assert errors == [f"{bad}: damaged: kind of response 7 is 2; expected 0 (reset) or 1 (step)"]
    assert out[-1].startswith("1 of 1 sessions agree")
