"""The length of an epoch, and the line that says when a training will end."""

import pytest

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.runs.epochs import projection, steps_of_an_epoch


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


@pytest.mark.parametrize(
    ("game", "rates", "steps_left", "line"),
    [
        ({}, (25_000, 400.0), 3_000_000, "400 updates/s, about 2 min to go"),
        ({}, (25_000, 1234.0), 1, "1,234 updates/s, about 1 min to go"),
        ({}, (10, 0.4), 2_160_000, "0.4 updates/s, about 60.0 hours to go"),
        (images(84), (100, 0.4321), 360_000, "0.43 updates/s, about 1.0 hours to go"),
        (
            images(84),
            (10, 0.4),
            2_160_000,
            "0.4 updates/s, about 60.0 hours to go on this machine; the preset pixels_84 takes minutes",
        ),
    ],
)
def test_the_line_that_says_when_a_training_will_end(game, rates, steps_left, line):
    named = dict(zip(("steps_per_second", "updates_per_second"), rates, strict=True))
    assert projection(GameConfig(**game), named, steps_left) == line
