"""What is accepted of an answer and of a request, whatever the transport."""

import numpy as np
import pytest
from fake_servers import INFO, RESET, STEP, VECTOR_SPACE

from jaxdodge.bevy import connect
from jaxdodge.bevy.client import UnreachableError
from jaxdodge.bevy.responses import (
    MalformedError,
    ObservationSpace,
    read_action_space,
    read_observation_space,
    read_response,
)
from jaxdodge.fields import ConfigError

NAN, INFINITE = float("nan"), float("inf")
VECTOR = ObservationSpace((65,), "float32", -100, 100)
IMAGE = ObservationSpace((32, 40, 3), "uint8", 0, 255)
IMAGE_RESET = RESET | {"observation": [], "image_observation": bytes(range(240)) * 16}

BAD_STEPS = {
    "no observation": ({"info": INFO}, "observation is None, not a list of numbers"),
    "64 numbers": (
        STEP | {"observation": [0.0] * 64},
        "observation has 64 numbers; the announced space has 65",
    ),
    "69 numbers": (STEP | {"observation": [0.0] * 69}, "observation has 69 numbers"),
    "empty observation": (STEP | {"observation": []}, "observation has 0 numbers"),
    "nested": (STEP | {"observation": [[0.0]] * 65}, "not a list of numbers"),
    "text": (STEP | {"observation": ["0"] * 65}, "not a list of numbers"),
    "booleans": (STEP | {"observation": [True] * 65}, "not a list of numbers"),
    "NaN": (STEP | {"observation": [0.0] * 64 + [NAN]}, "observation[64] is nan"),
    "infinite": (STEP | {"observation": [INFINITE] + [0.0] * 64}, "observation[0] is inf"),
    "beyond float32": (STEP | {"observation": [1e39] * 65}, "observation[0] is 1e+39"),
    "beyond float64": (STEP | {"observation": [10**400] * 65}, "beyond float32"),
    "no reward": (RESET | {"done": False, "truncated": False}, "reward is None"),
    "reward NaN": (STEP | {"reward": NAN}, "reward is nan"),
    "reward text": (STEP | {"reward": "1"}, "reward is '1'"),
    "reward true": (STEP | {"reward": True}, "reward is True"),
    "reward too large": (STEP | {"reward": 10**400}, "reward is 1000"),
    "done 0": (STEP | {"done": 0}, "done is 0, not true or false"),
    "truncated null": (STEP | {"truncated": None}, "truncated is None"),
    "no info": (STEP | {"info": None}, "info is None"),
    "steps missing": (STEP | {"info": {"projectile_count": 1}}, "episode_steps is None"),
    "steps 1.5": (STEP | {"info": INFO | {"episode_steps": 1.5}}, "episode_steps is 1.5, not a whole number"),
    "count negative": (STEP | {"info": INFO | {"projectile_count": -1}}, "projectile_count is -1"),
    "count true": (STEP | {"info": INFO | {"projectile_count": True}}, "projectile_count is True"),
    "image": (STEP | {"image_observation": b"123"}, "an image of 3 bytes came"),
}


@pytest.mark.parametrize(("answer", "reason"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_what_is_wrong_with_an_answer_is_named(answer, reason):
    with pytest.raises(MalformedError) as caught:
        read_response(answer, VECTOR, stepped=True)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


BAD_IMAGES = {
    "a byte less": (
        IMAGE_RESET | {"image_observation": bytes(3839)},
        "3839 bytes; the announced space has 3840",
    ),
    "none": (RESET | {"observation": []}, "image_observation is missing"),
    "with a vector": (IMAGE_RESET | {"observation": [0.0] * 65}, "65 numbers"),
}


@pytest.mark.parametrize(("answer", "reason"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(answer, reason):
    with pytest.raises(MalformedError, match=reason):
        read_response(answer, IMAGE, stepped=False)


def test_images_are_row_major():
    response = read_response(IMAGE_RESET, IMAGE, stepped=False)
    assert response.observation.shape == (0,)
    assert response.image is not None
    assert response.image[0, 1].tolist() == [3, 4, 5]
    assert response.image[1, 0].tolist() == [120, 121, 122]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [64]},
        {"shape": []},
        {"shape": "65"},
        {"shape": [65.0]},
        {"shape": [True]},
        {"dtype": "uint8"},
        {"dtype": None},
        {"shape": [31, 32, 3], "dtype": "uint8"},
        {"shape": [32, 513, 3], "dtype": "uint8"},
        {"shape": [32, 32, 2], "dtype": "uint8"},
        {"low": None},
        {"high": INFINITE},
    ],
    ids=repr,
)
def test_bad_observation_spaces(change):
    with pytest.raises(MalformedError):
        read_observation_space(VECTOR_SPACE | change)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "Discrete"},
        {"type": "Discrete", "n": 1.0},
        {"type": "Box", "shape": [2, 2], "low": -1, "high": 1},
        {"type": "Box", "shape": [2], "low": -1},
        {"type": "Circle", "shape": [2], "low": -1, "high": 1},
    ],
    ids=repr,
)
def test_bad_action_spaces(answer):
    with pytest.raises(MalformedError):
        read_action_space(answer)


# Nothing listens there: what is refused is refused before anything is sent.
NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "action", [1.5, NAN, [0.0, NAN], [1e39], "up", None, True, [[0.0]], 2**31, [[0], [0, 1]]], ids=repr
)
def test_actions_of_no_form_are_refused(action):
    with pytest.raises(ConfigError, match=r"action: invalid value .*; expected"):
        connect(NOBODY).step(action)


@pytest.mark.parametrize("action", [0, np.int64(4), [0, 1], (0.5, -1.0), np.zeros(6)], ids=repr)
def test_actions_of_either_form_are_sent(action):
    with pytest.raises(UnreachableError):
        connect(NOBODY).step(action)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"spawn_angle": 1}, "did you mean spawn_angle_degrees"),
        ({"fps": 60}, "no such field of the server"),
        ({"player_speed": NAN}, "player_speed: invalid value nan"),
    ],
)
def test_fields_that_no_server_has_are_refused(fields, reason):
    with pytest.raises(ConfigError, match=reason):
        connect(NOBODY).configure(**fields)


URLS = (
    "127.0.0.1:8000 http://127.0.0.1 https://127.0.0.1:8000 http://:8000 http://a:b http://a:99999 "
    "http://a:1/path http://u:p@a:1 http://a:1?x http://[::1:1 "
    "grpc://host unix: unix://host/path unix:/// unix:relative"
)


@pytest.mark.parametrize("url", ["", *URLS.split()])
def test_other_urls_are_refused(url):
    with pytest.raises(ConfigError, match=r"server: invalid value .*; expected http://HOST:PORT, ") as caught:
        connect(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, NAN, INFINITE, "soon"])
@pytest.mark.parametrize("url", [NOBODY, "grpc://127.0.0.1:1"])
def test_timeouts_without_an_end_are_refused(url, timeout):
    with pytest.raises(ConfigError, match="timeout: "):
        connect(url, timeout=timeout)


def test_a_host_without_address_is_unreachable():
    with pytest.raises(UnreachableError, match=r"http://nowhere\.invalid:80: "):
        connect("http://nowhere.invalid:80")
