"""The files of recordings, of either kind: what is read, and why one is refused."""

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdodge.files import error_line

FORMAT = 1
KINDS = ("frames", "session")


class RecordingError(Exception):
    """A file that is missing, damaged or of another format. One line that names it."""


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Meta, its kind and format checked, and all other arrays of a file; raises RecordingError."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordingError(f"{path}: not a readable npz file: {error_line(error)}") from None
    except (AttributeError, TypeError):  # np.load of a plain array gives no archive
        raise RecordingError(f"{path}: not an npz archive") from None
    try:
        meta = json.loads(str(arrays.pop("meta")))
        kind, version = meta["kind"], meta["format"]
    except (KeyError, TypeError, ValueError):
        raise RecordingError(f"{path}: damaged: no valid meta with kind and format") from None
    if version != FORMAT or kind not in KINDS:
        raise RecordingError(
            f"{path}: kind {kind!r}, format {version!r}; readable: frames or session, format {FORMAT}"
        )
    return meta, arrays


def check_arrays(
    arrays: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[str, tuple[Any, ...]]],
    damaged: Callable[[str], RecordingError],
) -> dict[str, int]:
    """Refuse arrays that are missing, or of another dtype or shape; returns the sizes by name.

    Args:
        arrays: by name.
        wanted: dtype and shape by name; a size is a number, or a name that
            stands for one number everywhere.
        damaged: makes the error of a reason.
    """
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in wanted.items():
        if name not in arrays:
            raise damaged(f"array {name} is missing")
        found = arrays[name]
        expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)
        fits = found.ndim == len(shape) and all(
            isinstance(want, str) or want == have for want, have in zip(expected, found.shape, strict=True)
        )
        if str(found.dtype) != dtype or not fits:
            raise damaged(f"{name} is {found.dtype}{list(found.shape)}, not {dtype}{list(expected)}")
        sizes |= {size: have for size, have in zip(shape, found.shape, strict=True) if isinstance(size, str)}
    return sizes


def bits(array: np.ndarray) -> np.ndarray:
    """The bits of an array's values, as unsigned integers of their width.

    Compared by bits, 0.0 differs from -0.0 and NaN equals itself.
    """
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.dtype.itemsize}")
