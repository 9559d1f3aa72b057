"""Locks on folders that only one process at a time may write to."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line


@contextlib.contextmanager
def locked(folder: Path, refusal: str, shared: bool = False) -> Iterator[None]:
    """Lock a folder; the lock ends with the block, and with the process however that ends.

    Args:
        folder: created if it is missing; the lock is on the file `lock` in it.
        refusal: the message, after the folder's name, if another process has locked it.
        shared: take a shared lock, which only excludes exclusive ones.

    Raises:
        ConfigError: another process has locked it, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error_line(error)})") from None
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: {refusal}") from None
        yield
