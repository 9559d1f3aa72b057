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

# Shortest and longest frame, ns; the game counts no longer ones.
FRAME_RANGE = 100_000, 250_000_000
MOST_FRAMES = 1000
STEPS, AFTER_RESET = "steps", "frames_after_reset"
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
    frames_after_reset: np.ndarray
    """int32 (resets,): frames from that of a reset to the next step's response; may be empty."""

    @classmethod
    def constant(cls, game: GameConfig) -> "StepTimings":
        """The timing of a configuration: all steps are equal."""
        values = game.frames_per_step, game.frame_nanoseconds, game.response_frame
        frames, frame_ns, response_frame = np.array(values, np.int32)[:, None]
        return cls(frames, frame_ns, response_frame, np.zeros(0, np.int32))

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
    content = options | {AFTER_RESET: steps.frames_after_reset.tolist(), STEPS: columns, "about": about}
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
    return {name: value for name, value in values.items() if name not in (STEPS, AFTER_RESET, "about")}


def read_steps(path: Path) -> StepTimings:
    """The steps of a timing; raises ConfigError."""
    try:
        content = read_json(path)
        columns = [content[STEPS][name] for name in COLUMNS]
        arrays = [np.array(values) for values in (*columns, content[AFTER_RESET])]
    except OSError as error:
        raise ConfigError(f"timing: {path}: cannot be read ({error_line(error)})") from None
    except (ValueError, KeyError, TypeError):
        raise _no_timing(path) from None
    arrays[3] = arrays[3].astype(np.int64) if not arrays[3].size else arrays[3]
    limits = [(0, MOST_FRAMES), FRAME_RANGE, (0, MOST_FRAMES), (0, MOST_FRAMES)]
    for name, array, (low, high) in zip((*COLUMNS, AFTER_RESET), arrays, limits, strict=True):
        if array.ndim != 1 or array.dtype != np.int64 or np.any((array < low) | (array > high)):
            raise ConfigError(f"{path}: invalid {name}; expected whole numbers from {low} to {high}")
    frames, _, response, _ = arrays
    if not len({len(array) for array in arrays[:3]}) == 1 or not frames.any() or np.any(response > frames):
        raise ConfigError(
            f"{path}: invalid steps; expected columns of one length, some frames, and "
            "response_frame <= frames"
        )
    return StepTimings(*(array.astype(np.int32) for array in arrays))


def _no_timing(path: Path) -> ConfigError:
    return ConfigError(f"timing: invalid value '{path}'; expected what parity timing --out wrote")
