"""Outputs that never end a command: a reader may leave, an encoding may lack a sign.

What cannot be written is dropped, and standard error says why, once.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from jaxdodge.files import error_line


class LastingStream(io.TextIOBase):
    """A text stream whose writes never fail.

    Args:
        stream: written to.
        name: for the line that says why it is not written to any more.
    """

    def __init__(self, stream: Any, name: str):
        self._stream = stream
        self._name = name
        self._broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return not self._broken and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self._broken:
            with self._reported():
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    escaped = text.encode(self.encoding, "backslashreplace")
                    self._stream.write(escaped.decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        if not self._broken:
            with self._reported():
                self._stream.flush()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._broken = True
            # What is left in its buffer would fail again when Python exits.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if self._name == "standard output" and sys.stderr is not None:
                print(f"{self._name}: not written ({error_line(error)}); goes on without", file=sys.stderr)


def plain_console() -> Console:
    """A console for standard output that writes plain lines, and bars on a terminal only."""
    # FORCE_COLOR would write bars into files.
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, force_terminal=terminal)


@contextlib.contextmanager
def lasting_outputs() -> Iterator[None]:
    """Print to `LastingStream`s within the block."""
    # Otherwise the next file that is opened would get the number of a closed output.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None and sys.stderr is not None:
        print("standard output: not written (it is closed); goes on without", file=sys.stderr)
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        LastingStream(stream or open(os.devnull, "w"), name)  # noqa: SIM115
        for stream, name in zip(before, ("standard output", "standard error"), strict=True)
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before
