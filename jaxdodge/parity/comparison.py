"""What a check of a recording finds: equality of bits, or the first difference."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxdodge.recordings.npz import bits


@dataclasses.dataclass(frozen=True)
class EnvironmentReplay:
    """A recording replayed through `DodgeEnv`."""

    values: int = 0
    """Values compared, images as one each."""
    difference: tuple[int, str] | None = None
    """Frame and text of the first difference."""
    inexpressible: str = ""
    """Why an environment cannot express the recording; empty if it can."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a check found: `difference` is empty if the recording and the simulator agree."""

    path: Path
    frames: int
    """Frames simulated."""
    values: int
    """Values compared."""
    images: int
    agreement: str
    """What the result is called without a difference."""
    spawn_ulp: int | None = None
    """Largest difference of a spawn position from the sampling formula, units in the last place."""
    seconds: float = 0.0
    difference: str = ""
    environment: EnvironmentReplay | None = None
    """Of a recording of frames, with --simulator."""


def first_difference(
    recorded: np.ndarray, replayed: np.ndarray, name: str, frames: np.ndarray | None = None
) -> tuple[int, str] | None:
    """Frame and text of the first difference, None if all bits are equal.

    Args:
        recorded: (frames, ...).
        replayed: the same shape and dtype.
        name: of the field.
        frames: the frame of every row; default: the row itself.
    """
    different = np.argwhere(bits(recorded) != bits(replayed.astype(recorded.dtype, copy=False)))
    if len(different) == 0:
        return None
    index = tuple(int(i) for i in different[0])
    frame = index[0] if frames is None else int(frames[index[0]])
    slot = "".join(f"[{i}]" for i in index[1:])
    return frame, f"frame {frame}, {name}{slot}: recorded {recorded[index]!s}, simulated {replayed[index]!s}"
