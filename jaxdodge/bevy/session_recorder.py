"""What every command shares that plays on a server: progress, and the session as a file."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jaxdodge.bevy.play import Played, server_fields
from jaxdodge.fields import ConfigError
from jaxdodge.recordings.session import STEP, Session, checked_session, write_session


class PlayingProgress:
    """A bar on a terminal."""

    def __init__(self) -> None:
        console = Console(highlight=False)
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

    def show(self, share: float, text: str) -> None:
        """How much is done, from 0 to 1, and of what."""
        self._bar.update(self._task, completed=share, description=text)


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written later; raises ConfigError."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: cannot be written (not a regular file)")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise ConfigError(f"{path}: cannot be written (no folder {path.parent} that takes files)")


def session_of(played: Played, path: Path, **notes: Any) -> Session | None:
    """What was played as an API session; None if nothing was answered.

    Args:
        played: what came of playing.
        path: of its file, if it is to have one; its stem is the session's name.
        notes: what else `meta` says.
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
    """Write a session, and say so; or say that there is none."""
    if session is None:
        print(f"{path}: not written, nothing was recorded", file=sys.stderr)
        return
    write_session(path, session.meta, session.arrays)
    kind, received = session.arrays["kind"], session.arrays["received_s"]
    steps, seconds = int((kind == STEP).sum()), received[-1]
    print(f"{path}: {steps} steps in {seconds:.1f} s ({steps / seconds:.1f} per second)", flush=True)
