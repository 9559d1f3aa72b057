"""Folders that only one process at a time writes into."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line


@contextlib.contextmanager
def locked(folder: Path, refusal: str, shared: bool = False) -> Iterator[None]:
    """Keep a folder to one process at a time; the lock ends with the process, however that ends.

    Args:
        folder: made if it is missing; in it, the lock is on the file `lock`.
        refusal: what is said, after the folder, where another process has it.
        shared: keep it only from those that do not share it.

    Raises:
        ConfigError: another process has it, or the folder cannot be made.
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
