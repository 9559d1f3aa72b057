"""The API sessions of the real server, read once, and copies that are changed."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxdodge.parity.check_session import Followed, follow_session
from jaxdodge.recordings.session import Session, checked_session, read_session

RECORDINGS = Path(__file__).parents[1] / "parity" / "recordings"
NAMES = tuple(sorted(path.stem.removeprefix("api_") for path in RECORDINGS.glob("api_*.npz")))
IMAGES = tuple(name for name in NAMES if "image" in name)
VECTORS = tuple(name for name in NAMES if "image" not in name)


@functools.cache
def real_session(name: str) -> Session:
    """A session by its file's name without `api_` and ending."""
    return read_session(RECORDINGS / f"api_{name}.npz")


@functools.cache
def followed(name: str) -> Followed:
    """What the check finds out about it."""
    return follow_session(real_session(name))


def changed(
    session: Session, change: Callable[[dict[str, np.ndarray]], None] = lambda arrays: None, **configure
) -> Session:
    """A copy whose arrays were changed in place, and which claims to be configured otherwise."""
    arrays = {name: array.copy() for name, array in session.arrays.items()}
    change(arrays)
    meta = session.meta | {"configure": session.meta["configure"] | configure}
    return checked_session(session.path, meta, arrays)
