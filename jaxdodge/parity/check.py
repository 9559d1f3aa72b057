"""`jaxdodge parity check`: compare recordings of the real game with the simulator.

Exit status: 0 all equal, 1 a difference, 2 a file that is missing, damaged or of another format.
"""

import collections
import dataclasses
import os
import platform
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from jaxdodge import resources
from jaxdodge.fields import ConfigError
from jaxdodge.files import atomic_write
from jaxdodge.parity.comparison import Result


@dataclasses.dataclass(frozen=True)
class Check:
    """Compare recordings with the simulator: of frames, every bit of a free-running replay; of
    sessions, every response with what its rules allow.

    Exits 0 if all agree, 1 on a difference, 2 on a file that is
    missing, damaged or of another format.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = ()
    """Recordings, or folders of recordings; default: those that come with the package."""
    simulator: bool = False
    """Replay recordings of frames also through the training environment, where it can
    express them: all frames run the same order of systems, last equally long and
    handle at most one command each."""
    report: Path | None = None
    """Write the table as Markdown to this file too."""


HEADER = ("recording", "frames", "values", "images", "spawn ulp", "seconds", "result")


def check(path: Path, by_environment: bool = False) -> Result:
    """Check one recording of either kind; raises RecordingError.

    Args:
        path: of the recording.
        by_environment: replay frames through `DodgeEnv` too, where an environment can express them.
    """
    from jaxdodge.parity.check_frames import check_frames
    from jaxdodge.parity.check_session import check_session
    from jaxdodge.recordings.npz import load
    from jaxdodge.recordings.recording import frame_recording
    from jaxdodge.recordings.session import checked_session

    start = time.perf_counter()
    meta, arrays = load(path)
    if meta["kind"] == "session":
        result = check_session(checked_session(path, meta, arrays))
    else:
        result = check_frames(frame_recording(path, meta, arrays), by_environment)
    return dataclasses.replace(result, seconds=time.perf_counter() - start)


def check_command(options: Check, _: object) -> int:
    """Print a row per recording and return the exit status."""
    from jaxdodge.recordings.npz import RecordingError

    if options.report is not None and (
        options.report.is_dir() or not os.access(options.report.absolute().parent, os.W_OK)
    ):
        raise ConfigError(f"report: invalid value {options.report}; expected a file that can be written")
    status = 0
    results: list[Result] = []
    for path in options.paths or (resources.recordings(),):
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            print(f"{path}: no recordings (*.npz) in this folder", file=sys.stderr)
            status = 2
        for file in files:
            try:
                result = check(file, options.simulator)
            except RecordingError as error:
                print(error, file=sys.stderr)
                status = 2
                continue
            if not results:
                _print_row(HEADER)
            results.append(result)
            _print_row(_row(result))
            if result.difference:
                status = max(status, 1)
    _print_summary(results)
    # Without results, a report of before stays.
    if options.report is not None and results:
        atomic_write(options.report, _markdown(results))
    return status


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.path.name,
        f"{result.frames}",
        f"{result.values}",
        f"{result.images}",
        "" if result.spawn_ulp is None else f"{result.spawn_ulp}",
        f"{result.seconds:.1f}",
        result.difference or result.agreement,
    )


def _print_row(row: tuple[str, ...]) -> None:
    print(f"{row[0]:32}" + "".join(f"{cell:>11}" for cell in row[1:-1]) + f"  {row[-1]}", flush=True)


def _print_summary(results: list[Result]) -> None:
    """A line each for recordings of frames, sessions, and the training environment."""
    for of_frames, verdict in ((True, "equal"), (False, "sessions agree")):
        checked = [result for result in results if (result.spawn_ulp is not None) is of_frames]
        if not checked:
            continue
        agree = sum(not result.difference for result in checked)
        counts = {name: sum(getattr(r, name) for r in checked) for name in ("frames", "values", "images")}
        throws = [result.spawn_ulp for result in checked if result.spawn_ulp is not None]
        print(
            f"{agree} of {len(checked)} {verdict}: "
            + ", ".join(f"{count} {name}" for name, count in counts.items())
            + (f"; throws within {max(throws)} ulp of the sampling formula" if throws else "")
            + f"; {sum(result.seconds for result in checked):.1f} s"
        )

    replays = [result.environment for result in results if result.environment is not None]
    if replays:
        reasons = collections.Counter(replay.inexpressible for replay in replays if replay.inexpressible)
        expressed = len(replays) - reasons.total()
        equal = sum(not (replay.inexpressible or replay.difference) for replay in replays)
        print(
            f"{equal} of {expressed} equal through the training environment: "
            f"{sum(replay.values for replay in replays)} values"
            + (f"; {len(replays) - expressed} not expressible: " if reasons else "")
            + ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        )


def _markdown(results: list[Result]) -> str:
    import jax

    lines = [
        "# Parity report",
        "",
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {platform.machine()}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(_row(result)) + " |" for result in results),
    ]
    return "\n".join(lines) + "\n"
