"""`jaxdodge parity timing`: measure the timing of a server, from a session or live.

Exit status: 0 measured, 1 the server failed, 2 bad input or a file that cannot be read.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxdodge.fields import ConfigError
from jaxdodge.parity.record import Record, record_command


@dataclasses.dataclass(frozen=True)
class Timing:
    """Measure frames per step, response frame and frame time, and print
    the options that reproduce them.

    Measures an API session, or a live server (--server), which is then played with random actions.
    """

    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """API session, as written by `record`."""
    out: Path | None = None
    """Write options and measured steps to this JSON file, for `jaxdodge train --timing` and
    `jaxdodge evaluate --timing`."""
    server: str | None = None
    """http://HOST:PORT, grpc://HOST:PORT or unix:///PATH: play on this server, read no file."""
    steps: int = 500
    """With --server: steps to play."""
    think_seconds: float = 0.0
    """With --server: pause after each step."""
    fps: float = 60.0
    """With --server: frames per second that it was started with, which it does not report."""
    level: int = 2
    """With --server: level to play. Level 1 needs more steps, because it has fewer throws."""


def timing_command(options: Timing, _: object) -> int:
    """Measure, print, and return the exit status."""
    path, server = options.path, options.server
    if (path is None) == (server is None):
        raise ConfigError("timing: expected either a session's file or --server")
    for field in dataclasses.fields(Timing):
        value = getattr(options, field.name)
        if path is not None and field.name not in ("path", "out", "server") and value != field.default:
            raise ConfigError(f"{field.name}: invalid value {value!r} with a file; expected with --server")
    from jaxdodge.parity.timing import measure
    from jaxdodge.recordings.npz import RecordingError
    from jaxdodge.recordings.session import read_session
    from jaxdodge.recordings.timing_file import write_timing

    if options.out is not None:
        options.out.touch()
    with tempfile.TemporaryDirectory() as folder:
        status = 0
        if server is not None:
            path = Path(folder) / "session.npz"
            game = {"action_space_type": "basic_3d", "level": options.level}
            given = {name: getattr(options, name) for name in ("steps", "think_seconds", "fps")}
            status = record_command(Record(server, path, **given), game)
            if not path.is_file():
                return status
        assert path is not None
        try:
            timing = measure(read_session(path))
        except RecordingError as error:
            print(error, file=sys.stderr)
            return 2
    print("\n".join(timing.lines()))
    print("options              " + " ".join(_option(*each) for each in timing.options().items()))
    if options.out is not None:
        write_timing(options.out, timing.options(), timing.step_timings, timing.lines())
    return status


def _option(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')} {value}"
