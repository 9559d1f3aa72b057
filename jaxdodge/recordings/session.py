"""API sessions: what a client saw of a server in real time. Format: `parity/README.md`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from jaxdodge.config import NOT_SERVER_FIELDS, GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.files import atomic_open
from jaxdodge.recordings.npz import FORMAT, RecordingError, check_arrays, load
from jaxdodge.sim.actions import DISCRETE_DIRECTIONS, action_size
from jaxdodge.sim.publish import STANDARD_SIZE, WITH_THROWER_SIZE

RESET, STEP = 0, 1
OBSERVATION_SIZE = {"standard": STANDARD_SIZE, "with_thrower": WITH_THROWER_SIZE, "topdown": 0}


@dataclasses.dataclass(frozen=True)
class Session:
    """What was sent to a server and what it answered: N requests, in the order of sending."""

    path: Path
    meta: dict[str, Any]
    """As in the file: `transport, fps, think_seconds, configure`, and notes of the recorder."""
    config: GameConfig
    """The game after `configure` of a server that has just started, at the server's fps."""
    arrays: dict[str, np.ndarray]
    """kind int8, sent_s and received_s float64, action float32 (N, components) or int32 (N,),
    observation float32 (N, D), reward float32, done and truncated bool, episode_steps and
    projectile_count int32; and image uint8 (N, height, width, channels) in the mode topdown.
    Shape (N,) where none is given."""

    def __len__(self) -> int:
        return len(self.arrays["kind"])


def read_session(path: Path) -> Session:
    """Read and validate a session; raises RecordingError."""
    meta, arrays = load(path)
    if meta["kind"] != "session":
        raise RecordingError(f"{path}: a recording of {meta['kind']}; expected an API session")
    return checked_session(path, meta, arrays)


def write_session(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Validate a session and write it: whole, or not at all. Raises RecordingError and OSError.

    Args:
        path: of the file, replaced if it exists.
        meta: at least `transport`, `fps`, `think_seconds` and
            `configure`; kind and format are added.
        arrays: as `Session.arrays`.
    """
    meta = {"kind": "session", "format": FORMAT, **meta}
    checked_session(path, meta, arrays)
    with atomic_open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)


def checked_session(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Session:
    """A session from the contents of a file; raises RecordingError if something does not fit."""

    def damaged(reason: str) -> RecordingError:
        return RecordingError(f"{path}: damaged: {reason}")

    config = _config(meta, damaged)
    wanted = _wanted(config)
    if check_arrays(arrays, wanted, damaged)["N"] == 0:
        raise damaged("it has no responses")
    if not np.any(arrays["kind"] == STEP):
        raise damaged("it has no step; expected some, not resets alone")
    _check_ranges(arrays, config, damaged)
    return Session(path, meta, config, {name: arrays[name] for name in wanted})


def _config(meta: dict[str, Any], damaged: Callable[[str], Exception]) -> GameConfig:
    for name, kind, expected in (("transport", str, "a text"), ("configure", dict, "a mapping")):
        if not isinstance(meta.get(name), kind):
            raise damaged(f"meta: {name}: invalid value {meta.get(name)!r}; expected {expected}")
    fields, fps = meta["configure"], cast(Any, meta.get("fps"))
    try:
        Number(float, 0).check("think_seconds", meta.get("think_seconds"))
        for name in fields:
            if name in NOT_SERVER_FIELDS:
                raise ConfigError(f"configure: {name}: no field of a server")
        return GameConfig(fps=fps).configure(**fields)
    except ConfigError as error:
        raise damaged(f"meta: {error}") from None


def _wanted(config: GameConfig) -> dict[str, tuple[str, tuple[Any, ...]]]:
    discrete, space = config.action_space_type == "discrete", config.action_space_type
    wanted: dict[str, tuple[str, tuple[Any, ...]]] = {
        "kind": ("int8", ("N",)),
        "sent_s": ("float64", ("N",)),
        "received_s": ("float64", ("N",)),
        "action": ("int32", ("N",)) if discrete else ("float32", ("N", action_size(space))),
        "observation": ("float32", ("N", OBSERVATION_SIZE[config.observation_mode])),
        "reward": ("float32", ("N",)),
        "done": ("bool", ("N",)),
        "truncated": ("bool", ("N",)),
        "episode_steps": ("int32", ("N",)),
        "projectile_count": ("int32", ("N",)),
    }
    if config.observation_mode == "topdown":
        channels = 1 if config.image_grayscale else 3
        wanted["image"] = ("uint8", ("N", config.image_obs_height, config.image_obs_width, channels))
    return wanted


def _check_ranges(
    arrays: dict[str, np.ndarray], config: GameConfig, damaged: Callable[[str], Exception]
) -> None:
    kind, sent, received, action = (arrays[name] for name in ("kind", "sent_s", "received_s", "action"))
    is_step = kind == STEP
    if config.action_space_type == "discrete":
        right = (action >= 0) & (action < len(DISCRETE_DIRECTIONS))
        right_of_reset = action == -1
    else:
        right = np.all((action >= -1) & (action <= 1), axis=1)
        right_of_reset = np.all(np.isnan(action), axis=1)
    finite = np.isfinite(sent) & np.isfinite(received)
    order = np.concatenate([[True], sent[1:] >= received[:-1]]) & (received >= sent)
    for name, valid, accepted in (
        ("kind", (kind == RESET) | is_step, "0 (reset) or 1 (step)"),
        ("sent_s, received_s", finite & order, "times that do not run backwards"),
        (
            "action",
            np.where(is_step, right, right_of_reset),
            "numbers of the action space; of a reset NaN, or -1 if discrete",
        ),
        ("observation", np.all(np.isfinite(arrays["observation"]), axis=1), "finite numbers"),
        ("reward", np.isfinite(arrays["reward"]) | ~is_step, "a finite number; of a reset it is not read"),
        ("episode_steps", arrays["episode_steps"] >= 0, "not negative"),
        ("projectile_count", arrays["projectile_count"] >= 0, "not negative"),
    ):
        if not np.all(valid):
            response = int(np.argmin(valid))
            found = f" is {arrays[name][response]}" if name in arrays and arrays[name].ndim == 1 else ""
            raise damaged(f"{name} of response {response}{found}; expected {accepted}")
