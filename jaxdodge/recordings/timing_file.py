"""A measured timing as a file: JSON with the options that reproduce it, and every measured step.

Format: `docs/servers.md`, "The file of a timing".
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, read_yaml
from jaxdodge.files import atomic_write, error_line, read_json
from jaxdodge.sim.order import SHOWING_DONE_AFTER

# Shortest and longest frame, ns; the game counts no longer ones.
FRAME_RANGE = 100_000, 250_000_000
MOST_FRAMES = 1000
STEPS = "steps"
RESETS = ("frames_before_reset", "frames_after_reset")
FRAMES_TO_DONE = "frames_to_done"
MOST_TO_DONE = len(SHOWING_DONE_AFTER) - 1
COLUMNS = ("frames", "frame_ns", "response_frame")


@dataclasses.dataclass(frozen=True)
class StepTimings:
    """The steps of one client on one server, in the order in which they were measured."""

    frames: np.ndarray
    """int32 (steps,): frames from one response to the next, 0 or more."""
    frame_ns: np.ndarray
    """int32 (steps,): mean length of them."""
    response_frame: np.ndarray
    """int32 (steps,): for how many frames the response shows the action, up to `frames`."""
    frames_before_reset: np.ndarray
    """int32 (resets,): whole frames from an episode's last response to the frame that resets, the
    last one if several resets were sent; may be empty."""
    frames_after_reset: np.ndarray
    """int32 (resets,): frames from that of the reset to the response of the next step."""
    frames_to_done: int = 0
    """Frames from the first publication that shows a hit to the one that says done, 0, 1 or 2: the
    order of a frame's systems decides it."""

    @classmethod
    def constant(cls, game: GameConfig) -> "StepTimings":
        """The timing of a configuration: all steps are equal."""
        values = game.frames_per_step, game.frame_nanoseconds, game.response_frame
        frames, frame_ns, response_frame = np.array(values, np.int32)[:, None]
        return cls(frames, frame_ns, response_frame, np.zeros(0, np.int32), np.zeros(0, np.int32))

    def median(self) -> dict[str, Any]:
        """The options of the game of a typical step."""
        frames = max(1, round(float(np.median(self.frames))))
        response = min(round(float(np.median(self.response_frame))), frames)
        fps = self.frames.sum() * 1e9 / (self.frames.astype(float) * self.frame_ns).sum()
        return {
            "frames_per_step": frames,
            "response_frame": response,
            "fps": float(np.clip(fps, 4, 1000)),
        }


def write_timing(path: Path, options: dict[str, Any], steps: StepTimings, about: list[str]) -> None:
    """Write a timing; `about` is for people. Raises OSError."""
    columns = {name: getattr(steps, name).tolist() for name in COLUMNS}
    resets = {name: getattr(steps, name).tolist() for name in RESETS}
    content = options | {FRAMES_TO_DONE: steps.frames_to_done} | resets | {STEPS: columns, "about": about}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
    atomic_write(path, "{\n" + lines + "\n}\n")


def read_options(path: Path) -> dict[str, Any]:
    """The options of a timing, not yet checked; also of a YAML file of options. ConfigError."""
    try:
        values = read_json(path)
    except OSError as error:
        raise ConfigError(f"timing: {path}: cannot be read ({error_line(error)})") from None
    except ValueError:
        try:
            values = read_yaml(path)
        except ConfigError:
            raise _no_timing(path) from None
    if not isinstance(values, dict):
        raise _no_timing(path)
    others = (FRAMES_TO_DONE, *RESETS, STEPS, "about")
    return {name: value for name, value in values.items() if name not in others}


def read_steps(path: Path) -> StepTimings:
    """The steps of a timing; raises ConfigError."""
    try:
        content = read_json(path)
        columns = [content[STEPS][name] for name in COLUMNS]
        arrays = [np.array(values) for values in (*columns, *(content[name] for name in RESETS))]
        to_done = content[FRAMES_TO_DONE]
    except OSError as error:
        raise ConfigError(f"timing: {path}: cannot be read ({error_line(error)})") from None
    except KeyError as error:
        name = error.args[0]
        raise ConfigError(
            f"timing: {path}: {name} is missing; expected what this version's parity timing --out wrote"
        ) from None
    except (ValueError, TypeError):
        raise _no_timing(path) from None
    arrays[3:] = [array if array.size else array.astype(np.int64) for array in arrays[3:]]
    limits = [(0, MOST_FRAMES), FRAME_RANGE, *[(0, MOST_FRAMES)] * 3]
    for name, array, (low, high) in zip((*COLUMNS, *RESETS), arrays, limits, strict=True):
        if array.ndim != 1 or array.dtype != np.int64 or np.any((array < low) | (array > high)):
            raise ConfigError(f"{path}: invalid {name}; expected whole numbers from {low} to {high}")
    frames, frame_ns, response, before, after = (array.astype(np.int32) for array in arrays)
    if len(before) != len(after):
        raise ConfigError(f"{path}: invalid {RESETS[0]}; expected as many as {RESETS[1]}")
    if type(to_done) is not int or not 0 <= to_done <= MOST_TO_DONE:
        raise ConfigError(f"{path}: invalid {FRAMES_TO_DONE} {to_done!r}; expected 0 to {MOST_TO_DONE}")
    if len({len(array) for array in arrays[:3]}) > 1 or not frames.any() or np.any(response > frames):
        raise ConfigError(
            f"{path}: invalid steps; expected columns of one length, some frames, and "
            "response_frame <= frames"
        )
    return StepTimings(frames, frame_ns, response, before, after, to_done)


def _no_timing(path: Path) -> ConfigError:
    return ConfigError(f"timing: invalid value '{path}'; expected what parity timing --out wrote")
