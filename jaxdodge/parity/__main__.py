"""`python -m jaxdodge.parity check`: replay recordings of the real game and compare every bit.

Exit status: 0 all equal, 1 a difference, 2 a file that is missing, damaged or of another format.
"""

import dataclasses
import platform
import sys
from pathlib import Path
from typing import Annotated

import tyro

from jaxdodge.cli import run_command

DEFAULT_FOLDER = Path("parity/recordings")


@dataclasses.dataclass(frozen=True)
class Check:
    """Replay recordings with the simulator's own systems, free-running, and compare every value for equality.

    Exits 0 if all are equal, 1 on a difference, 2 on a file that is missing, damaged or of another format.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = (
        DEFAULT_FOLDER,
    )
    """Recordings, or folders of recordings."""
    report: Path | None = None
    """Write the table as Markdown to this file too."""


HEADER = ("recording", "frames", "values", "images", "spawn ulp", "seconds", "result")


def check_command(options: Check) -> int:
    """Print a row per recording and return the exit status."""
    from jaxdodge.parity.check import check
    from jaxdodge.parity.recording import RecordingError

    if options.report is not None:
        options.report.touch()
    status = 0
    rows: list[tuple[str, ...]] = []
    for path in options.paths:
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not files:
            print(f"{path}: no recordings (*.npz) in this folder", file=sys.stderr)
            status = 2
        for file in files:
            try:
                result = check(file)
            except RecordingError as error:
                print(error, file=sys.stderr)
                status = 2
                continue
            row = _row(result)
            if not rows:
                _print_row(HEADER)
            rows.append(row)
            _print_row(row)
            if result.difference:
                status = max(status, 1)
    _print_summary(rows)
    if options.report is not None:
        options.report.write_text(_markdown(rows), encoding="utf-8")
    return status


def _row(result) -> tuple[str, ...]:
    if not result.covered:
        return (result.path.name, "", "", "", "", "", "API session: not covered yet")
    return (
        result.path.name,
        f"{result.frames}",
        f"{result.values}",
        f"{result.images}",
        f"{result.spawn_ulp}",
        f"{result.seconds:.1f}",
        result.difference or "equal",
    )


def _print_row(row: tuple[str, ...]) -> None:
    print(f"{row[0]:32}" + "".join(f"{cell:>11}" for cell in row[1:-1]) + f"  {row[-1]}", flush=True)


def _print_summary(rows: list[tuple[str, ...]]) -> None:
    checked = [row for row in rows if row[1]]
    if not checked:
        return
    frames, values, images = (sum(int(row[column]) for row in checked) for column in (1, 2, 3))
    equal = sum(row[-1] == "equal" for row in checked)
    largest = max(int(row[4]) for row in checked)
    seconds = sum(float(row[5]) for row in checked)
    print(
        f"{equal} of {len(checked)} equal: {frames} frames, {values} values, {images} images; "
        f"throws within {largest} ulp of the sampling formula; {seconds:.1f} s"
    )


def _markdown(rows: list[tuple[str, ...]]) -> str:
    import jax

    lines = [
        "# Parity report",
        "",
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {platform.machine()}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Parse the command line and run; returns the exit status."""
    return run_command({"check": (Check, check_command)}, "jaxdodge.parity")


if __name__ == "__main__":
    sys.exit(main())
