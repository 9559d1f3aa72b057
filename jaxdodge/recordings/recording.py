"""Frame recordings of the real game: reading and checking files. Format: `parity/README.md`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.config import ACTION_SPACES, GameConfig, restarts_timer
from jaxdodge.fields import ConfigError, Number
from jaxdodge.recordings.npz import RecordingError, check_arrays
from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS
from jaxdodge.sim.order import SYSTEMS

LONGEST_FRAME_NANOSECONDS = 999_999_999

# Shape with F frames, P projectile slots, T indicator slots, D numbers of the largest observation.
INPUTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dt_ns": ("int64", ("F",)),
    "order": ("uint8", ("F", len(SYSTEMS))),
    "spawn_u": ("float32", ("F",)),
    "spawn_position": ("float32", ("F", 2)),
}
COMPARED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "dt": ("float32", ("F",)),
    "player_position": ("float32", ("F", 3)),
    "player_velocity": ("float32", ("F", 2)),
    "player_vertical_velocity": ("float32", ("F",)),
    "player_on_ground": ("bool", ("F",)),
    "projectile_count": ("int32", ("F",)),
    "projectile_position": ("float32", ("F", "P", 3)),
    "projectile_velocity": ("float32", ("F", "P", 3)),
    "thrower_count": ("int32", ("F",)),
    "thrower_position": ("float32", ("F", "T", 3)),
    "thrower_velocity": ("float32", ("F", "T", 3)),
    "thrower_elapsed_ns": ("int64", ("F", "T")),
    "thrower_duration_ns": ("int64", ("F", "T")),
    "spawn_timer_elapsed_ns": ("int64", ("F",)),
    "spawn_timer_duration_ns": ("int64", ("F",)),
    "game_over": ("bool", ("F",)),
    "episode_steps": ("int32", ("F",)),
    "published_observation_size": ("int32", ("F",)),
    "published_observation": ("float32", ("F", "D")),
    "published_reward": ("float32", ("F",)),
    "published_done": ("bool", ("F",)),
    "published_truncated": ("bool", ("F",)),
    "published_episode_steps": ("int32", ("F",)),
    "published_projectile_count": ("int32", ("F",)),
}


@dataclasses.dataclass(frozen=True)
class RecordedCommand:
    """A command of a recording, with the configuration that holds once it is handled."""

    kind: str
    """"action", "reset" or "configure"."""
    config: GameConfig
    restart_timer: bool = False
    movement: tuple[float, float, float, float] = (0.0, 0.0, -1.0, -1.0)
    """vx, vy, sprint, jump in [-1, 1]."""


@dataclasses.dataclass(frozen=True)
class FrameRecording:
    """A frame recording: what went into every frame, and what came of it."""

    path: Path
    schedule: np.ndarray
    """uint8 (13,): indices into SYSTEMS."""
    commands: list[list[RecordedCommand]]
    """Per frame, in the order of arrival."""
    arrays: dict[str, np.ndarray]
    """INPUTS and COMPARED, `order` as indices into SYSTEMS."""
    image_frame: np.ndarray
    image: np.ndarray | None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.arrays["dt_ns"])


def frame_recording(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> FrameRecording:
    """Validate the contents of a file of kind `frames`; raises RecordingError."""

    def damaged(reason: str) -> RecordingError:
        return RecordingError(f"{path}: damaged: {reason}")

    sizes = check_arrays(arrays, INPUTS | COMPARED, damaged)
    if sizes["F"] == 0:
        raise damaged("it has no frames")
    if not np.all((arrays["dt_ns"] >= 0) & (arrays["dt_ns"] <= LONGEST_FRAME_NANOSECONDS)):
        raise damaged("dt_ns is outside 0..999999999")
    try:
        names = list(meta["systems"])
        to_ours = np.array([SYSTEMS.index(name) for name in names], np.uint8)
        schedule = np.array([SYSTEMS.index(name) for name in meta["schedule"]], np.uint8)
    except (KeyError, TypeError, ValueError):
        raise damaged("meta names no valid systems and schedule") from None
    every = np.arange(len(SYSTEMS))
    if not (np.array_equal(np.sort(to_ours), every) and np.array_equal(np.sort(schedule), every)):
        raise damaged("systems and schedule must name each of the 13 systems once")
    if not np.all(np.sort(arrays["order"], axis=1) == every):
        frame = int(np.argmax(np.any(np.sort(arrays["order"], axis=1) != every, axis=1)))
        raise damaged(f"order of frame {frame} is no permutation of the 13 systems")
    try:
        commands = _commands(meta["commands"], sizes["F"])
    except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
        raise damaged(f"commands: {type(error).__name__}: {error}") from None
    image, image_frame = arrays.get("image"), arrays.get("image_frame", np.zeros(0, np.int32))
    if image is not None:
        valid = image.dtype == np.uint8 and image.ndim == 4 and image.shape[3] in (1, 3)
        if not valid or image_frame.shape != (len(image),) or image_frame.dtype != np.int32:
            raise damaged("image must be uint8[K, h, w, 1 or 3] with an int32 image_frame[K]")
        if len(image_frame) and not (image_frame.min() >= 0 and image_frame.max() < sizes["F"]):
            raise damaged("image_frame names frames that are not there")
        if not all(32 <= size <= 512 for size in image.shape[1:3]):
            raise damaged(f"image of {image.shape[1]} x {image.shape[2]} pixels; the game allows 32 to 512")
    kept = {name: arrays[name] for name in INPUTS | COMPARED}
    kept["order"] = to_ours[arrays["order"]]
    return FrameRecording(path, schedule, commands, kept, image_frame, image)


def _commands(recorded: list[Any], frames: int) -> list[list[RecordedCommand]]:
    """The commands by frame; the configuration follows from them, from the server's start on."""
    by_frame: list[list[RecordedCommand]] = [[] for _ in range(frames)]
    config, previous = GameConfig(), 0
    for frame, command in recorded:
        if not previous <= frame < frames:
            raise ValueError(f"frame {frame} is out of range or order")
        previous, kind = frame, command["kind"]
        if kind == "reset":
            by_frame[frame].append(RecordedCommand("reset", config))
        elif kind in ("set_level", "configure"):
            fields = command["fields"] if kind == "configure" else {"level": command["level"]}
            config = config.configure(**fields)
            by_frame[frame].append(RecordedCommand("configure", config, restarts_timer(fields)))
        elif kind == "discrete":
            action = Number(int, 0, len(DISCRETE_DIRECTIONS) - 1).check("action", command["action"])
            vx, vy = DISCRETE_DIRECTIONS[action].tolist()
            by_frame[frame].append(RecordedCommand("action", config, movement=(vx, vy, -1.0, -1.0)))
        elif kind == "continuous":
            names = COMPONENTS[ACTION_SPACES.check("space", command["space"])]
            numbers = [Number(float, -1, 1).check("action", number) for number in command["action"]]
            value = dict(zip(names, numbers, strict=True))
            move = (value["vx"], value["vy"], value["sprint"], value.get("jump", -1.0))
            by_frame[frame].append(RecordedCommand("action", config, movement=move))
        else:
            raise ValueError(f"unknown kind {kind!r}")
    return by_frame
