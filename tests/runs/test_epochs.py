"""The length of an epoch, and the line that says when a training will end."""

import pytest

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.runs.epochs import TimeLeft, projection, steps_of_an_epoch


def images(side: int, **more: object) -> dict[str, object]:
    return {"observation_mode": "topdown", "image_obs_width": side, "image_obs_height": side, **more}


@pytest.mark.parametrize(
    ("game", "train", "steps"),
    [
        ({}, {}, 25),
        ({}, {"num_envs": 256, "gradient_steps": 16}, 25),
        ({}, {"num_envs": 16, "gradient_steps": 64, "train_freq": 8}, 50),
        ({}, {"num_envs": 100_000, "buffer_size": 1_000_000}, 1),
        ({}, {"gradient_steps": 1000}, 1),
        # Updates on images: 446, at most 400; 37; 5; 341 and 4.
        (images(84, image_grayscale=False), {"num_envs": 256, "gradient_steps": 8, "squint": 3}, 50),
        (images(84, image_grayscale=True, frame_stack=4), {"num_envs": 256, "gradient_steps": 8}, 4),
        (images(256, image_grayscale=False), {"num_envs": 256, "gradient_steps": 8}, 1),
        (images(256, image_grayscale=False), {"num_envs": 256, "gradient_steps": 8, "squint": 8}, 42),
        (
            images(84, image_grayscale=True, frame_stack=4),
            {"num_envs": 256, "gradient_steps": 1, "encoder": "nature"},
            4,
        ),
    ],
)
def test_an_epoch_has_no_more_steps_and_updates_than_an_interruption_can_wait_for(game, train, steps):
    assert steps_of_an_epoch(GameConfig(**game), TrainConfig(**train)) == steps


def test_the_time_left_is_that_of_learning_and_of_evaluations():
    left = TimeLeft(eval_freq=800, total=2000)
    # Compiled programs, and steps before learning, are not what comes.
    left.evaluation(60.0)
    assert left.seconds(50) is None
    left.epoch(50, 1.0)
    assert left.seconds(50) == 39.0
    left.epoch(50, 3.0)
    left.evaluation(2.0)
    # Evaluations at 200, 400, 800, 1600 and at the end.
    assert left.seconds(100) == 1900 * 0.04 + 5 * 2.0
    assert left.seconds(800) == 1200 * 0.04 + 2 * 2.0
    assert left.seconds(2000) == 0.0


@pytest.mark.parametrize(
    ("game", "updates", "seconds", "line"),
    [
        ({}, 400.0, 120, "400 updates/s, about 2 min 00 s to go"),
        ({}, 1234.0, 1, "1,234 updates/s, about 1.0 s to go"),
        ({}, 0.4, 216_000, "0.4 updates/s, about 60 h 00 min to go"),
        (images(84), 0.4321, 3600, "0.43 updates/s, about 1 h 00 min to go"),
        (
            images(84),
            0.4,
            216_000,
            "0.4 updates/s, about 60 h 00 min to go on this machine; the preset pixels_84 takes minutes",
        ),
    ],
)
def test_the_line_that_says_when_a_training_will_end(game, updates, seconds, line):
    assert projection(GameConfig(**game), updates, seconds) == line
