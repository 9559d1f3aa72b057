"""The files of recordings, of either kind: what is read, and why one is refused."""

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdodge.files import error_line, one_line

FORMAT = 1
KINDS = ("frames", "session")
NPY = b"\x93NUMPY"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# A session of an hour with images has 100 MB.
LARGEST, MOST_ARRAYS = 2**30, 100


class RecordingError(Exception):
    """A file that is missing, damaged or of another format. One line that names it."""


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Meta, its kind and format checked, and all other arrays of a file; raises RecordingError."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            if file.read(len(NPY)) == NPY:
                raise RecordingError(f"{path}: not an npz archive")
            arrays = _arrays(file)
    except RecordingError:
        raise
    except Exception as error:  # zipfile, its decompressors and NumPy raise many kinds
        raise RecordingError(f"{path}: not a readable npz file: {error_line(error, 300)}") from None
    try:
        meta = json.loads(str(arrays.pop("meta")))
        kind, version = meta["kind"], meta["format"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise RecordingError(f"{path}: damaged: no valid meta with kind and format") from None
    if version != FORMAT or kind not in KINDS:
        raise RecordingError(
            f"{path}: kind {one_line(repr(kind), 60)}, format {one_line(repr(version), 60)}; "
            f"readable: frames or session, format {FORMAT}"
        )
    return meta, arrays


def _arrays(file: IO[bytes]) -> dict[str, np.ndarray]:
    """All arrays of an archive; what they claim to be is checked before they are read."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        if len(entries) > MOST_ARRAYS or size > LARGEST:
            raise ValueError(
                f"{len(entries)} arrays of {size:,} bytes; expected at most {MOST_ARRAYS} of {LARGEST:,}"
            )
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"array {one_line(name, 60)} occurs twice")
            with archive.open(entry) as member:
                _check_header(name, member, entry.file_size)
            with archive.open(entry) as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _check_header(name: str, member: IO[bytes], size: int) -> None:
    """Raise ValueError if an array claims to be larger than its entry: NumPy would allocate it."""
    version = np.lib.format.read_magic(member)
    if version not in HEADERS:
        raise ValueError(f"array {one_line(name, 60)} has version {version} of the format")
    shape, _, dtype = HEADERS[version](member)
    if math.prod(shape) * max(dtype.itemsize, 1) > size:
        raise ValueError(f"array {one_line(name, 60)} is {dtype}{[*shape]}, which {size} bytes cannot hold")


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
