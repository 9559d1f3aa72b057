"""Files that are written whole or not at all, and the text of an error in one line."""

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal


@contextlib.contextmanager
def atomic_open(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its name when the block ends; after an error nothing has changed.

    The content goes to a new file with a random name in the same folder, which is synced to disk
    and then renamed. A reader sees the old file or the new one, also after a crash.

    Args:
        path: the file, replaced if it exists. A symbolic link is replaced, not followed.
        mode: "w" for UTF-8 text (newlines are kept as they are), "wb" for bytes.

    Raises:
        OSError: the file cannot be written, or something other than a regular file has its name.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = path.with_name(f".{secrets.token_hex(8)}.partial")
    text: dict[str, Any] = {"encoding": "utf-8", "newline": ""} if mode == "w" else {}
    try:
        # "x" fails if the name exists, and so never follows a link.
        file = temporary.open(mode.replace("w", "x"), **text)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; see `atomic_open`."""
    with atomic_open(path, "w" if isinstance(content, str) else "wb") as file:
        file.write(content)


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; a symbolic link is followed.
        largest: bytes that it may have.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    # Without waiting for the other end of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        kind = os.fstat(descriptor)
        if stat.S_ISDIR(kind.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(largest + 1) if kind.st_size <= largest else b""
        if max(kind.st_size, len(content)) > largest:
            raise OSError(errno.EFBIG, f"larger than {largest:,} bytes", str(path))
    return content


def read_json(path: Path, largest: int = 50_000_000) -> Any:
    """The value of a JSON file; raises OSError or ValueError, also if it is nested too deeply."""
    try:
        return json.loads(read_bytes(path, largest))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def one_line(text: object, longest: int | None = None) -> str:
    """A text without line breaks and repeated spaces, cut after `longest` characters."""
    line = " ".join(str(text).split())
    return line if longest is None or len(line) <= longest else f"{line[:longest]} ..."


def error_line(error: BaseException, longest: int | None = None) -> str:
    """Why an operation failed, in one line: the system's message, else the error's text or type."""
    return one_line(getattr(error, "strerror", None) or error, longest) or type(error).__name__
