"""What can be wrong with a session of a server: changes of its arrays or of
its configuration, by name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdodge.recordings.session import RESET, STEP, Session


class Mutation(NamedTuple):
    """A change, and how the difference that it makes may begin."""

    change: Callable[[dict[str, np.ndarray], Session], None]
    found: tuple[str, ...]
    configure: Callable[[Session], dict[str, Any]] = lambda session: {}


def _nothing(arrays, session) -> None:
    """Only the configuration is another."""


def _recorded_penalty(arrays, session):
    arrays["reward"][arrays["reward"] == -100] = -99


def _dearer(arrays, session):
    """Every reward of a living player by the least that a float can."""
    alive = (arrays["kind"] == STEP) & ~arrays["done"]
    arrays["reward"][alive] = np.nextafter(arrays["reward"][alive], np.float32(1000))


def _later(arrays, session):
    for name in {"observation", "image"} & set(arrays):
        arrays[name][:-1] = arrays[name][1:].copy()


def _before(arrays, session):
    for name in {"observation", "image"} & set(arrays):
        arrays[name][1:] = arrays[name][:-1].copy()


def _count_more(arrays, session):
    arrays["projectile_count"] += 2


def _count_none(arrays, session):
    arrays["projectile_count"][:] = 0


def _count_hundred(arrays, session):
    arrays["projectile_count"][100] = 100


def _done_once(arrays, session):
    """A step in the middle of an episode says that the episode has ended."""
    middle = _episode(arrays)
    arrays["done"][middle.start] ^= True


def _episode(arrays) -> slice:
    """The second half of the longest episode."""
    resets = np.append(np.flatnonzero(arrays["kind"] == RESET), len(arrays["kind"]))
    longest = int(np.argmax(np.diff(resets)))
    return slice(int(resets[longest] + resets[longest + 1]) // 2, int(resets[longest + 1]))


def _lost_step(arrays, session):
    arrays["episode_steps"][_episode(arrays)] -= 1


def _step_more(arrays, session):
    arrays["episode_steps"][_episode(arrays)] += 1


def _farther(arrays, session):
    arrays["observation"][:, :2] *= np.float32(1.02)


def _next_action(arrays, session):
    steps = np.flatnonzero(arrays["kind"] == STEP)
    arrays["action"][steps[:-1]] = arrays["action"][steps[1:]]


def _a_frame_later(arrays, session):
    """The observation is of the frame after the one that the rest is of."""
    table = arrays["observation"][:, 5:65].reshape(-1, 10, 6)
    table[..., :3] += table[..., 3:] / np.float32(session.config.fps)


def _swapped(arrays, session):
    at = np.flatnonzero((arrays["projectile_count"] >= 2) & (np.arange(len(arrays["kind"])) > 5))[3]
    row = arrays["observation"][at]
    row[5:11], row[11:17] = row[11:17].copy(), row[5:11].copy()


def _player(session: Session) -> tuple[int, ...]:
    return (132,) if session.config.image_grayscale else (50, 150, 255)


def _colour(arrays, session):
    arrays["image"][100, 3, 3] ^= 1


def _no_player(arrays, session):
    image = arrays["image"][100]
    image[np.all(image == _player(session), axis=-1)] = image[2, 2]


def _moved_player(arrays, session):
    image = arrays["image"][100]
    disc = np.all(image == _player(session), axis=-1)
    image[disc] = image[2, 2]
    image[np.roll(disc, 12, axis=1)] = _player(session)


TORN = "do not fit together"
OF_ALL = {
    "penalty -99 believed": Mutation(
        _nothing, ("reward: recorded -100",), lambda _: {"collision_penalty": -99.0}
    ),
    "penalty -99 recorded": Mutation(_recorded_penalty, ("reward: recorded -99",)),
    "observation one later": Mutation(_later, ("",)),
    "observation one before": Mutation(_before, ("",)),
    "done once": Mutation(_done_once, ("done", "reward")),
    "count of no projectiles": Mutation(_count_none, ("projectile_count", "reward", TORN)),
}
OF_VECTORS = {
    # Of images, a server that handles one command later or sooner looks the same.
    "a step counted twice": Mutation(_step_more, ("episode_steps", TORN)),
    "a step not counted": Mutation(_lost_step, ("episode_steps", "player position", TORN)),
    "count of a hundred once": Mutation(_count_hundred, ("projectile_count",)),
    "count of two more": Mutation(_count_more, ("projectile_count", TORN)),
    "rewards an ulp more": Mutation(_dearer, ("reward", TORN)),
    "speed 5.01 believed": Mutation(_nothing, ("observation[3:5]",), lambda _: {"player_speed": 5.01}),
    "positions 2 % farther": Mutation(_farther, ("player position", "reward", TORN)),
    "actions one later": Mutation(_next_action, ("observation[3:5]", TORN)),
    "rows swapped once": Mutation(_swapped, ("order of projectiles",)),
    "throws 1 % rarer": Mutation(
        _nothing,
        ("throw",),
        lambda session: {"projectile_spawn_interval": session.config.projectile_spawn_interval * 1.01},
    ),
    "throws 1 % more often": Mutation(
        _nothing,
        ("throw",),
        lambda session: {"projectile_spawn_interval": session.config.projectile_spawn_interval * 0.99},
    ),
    "player 1 % faster": Mutation(
        _nothing, ("observation[3:5]",), lambda session: {"player_speed": session.config.player_speed * 1.01}
    ),
    "angle 5 % smaller": Mutation(
        _nothing,
        ("throw",),
        lambda session: {"spawn_angle_degrees": session.config.spawn_angle_degrees * 0.95},
    ),
    "projectiles a frame later": Mutation(_a_frame_later, ("reward", TORN)),
}
OF_IMAGES = {
    "a pixel's colour": Mutation(_colour, ("image, pixel",)),
    "no player": Mutation(_no_player, ("image, p",)),
    "player 12 pixels aside": Mutation(_moved_player, ("image, pixel", "player in the image")),
}
