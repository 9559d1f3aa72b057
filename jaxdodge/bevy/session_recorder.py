"""Progress of playing on a server, and the session as a file; shared by all commands that play."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxdodge.bevy.play import Played, server_fields
from jaxdodge.fields import ConfigError
from jaxdodge.outputs import plain_console
from jaxdodge.recordings.session import STEP, Session, checked_session, write_session


class PlayingProgress:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        console = self._console = plain_console()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1)

    def __enter__(self) -> "PlayingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line at once."""
        self._console.print(line)
        self._console.file.flush()

    def show(self, share: float, text: str) -> None:
        """Show the finished share, from 0 to 1, and a description."""
        self._bar.update(self._task, completed=share, description=text)


def check_writable(path: Path) -> None:
    """Raise ConfigError if a file could not be written later."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: cannot be written (not a regular file)")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise ConfigError(f"{path}: cannot be written (no writable folder {path.parent})")


def session_of(played: Played, path: Path, **notes: Any) -> Session | None:
    """The API session of what was played; None if there was no response.

    Args:
        played: result of playing.
        path: path of the file; its stem is the session's name.
        notes: further entries of `meta`.
    """
    if not len(played.log):
        return None
    meta = {
        "name": path.stem,
        "source": played.url,
        "transport": "http" if played.url.startswith("http:") else "grpc",
        "fps": played.game.fps,
        "think_seconds": played.think_seconds,
        "configure": server_fields(played.game),
        "stopped": played.stopped,
    }
    return checked_session(path, meta | notes, played.log.arrays())


def save(session: Session | None, path: Path) -> None:
    """Write a session and print a line about it, or that there is none."""
    if session is None:
        print(f"{path}: not written, nothing was recorded", file=sys.stderr)
        return
    write_session(path, session.meta, session.arrays)
    kind, received = session.arrays["kind"], session.arrays["received_s"]
    steps, seconds = int((kind == STEP).sum()), received[-1]
    print(f"{path}: {steps} steps in {seconds:.1f} s ({steps / seconds:.1f} per second)", flush=True)
