"""Kills what a program has left behind; a script of its own, see `jaxdodge.bevy.launch.Watchdog`.

Its argument is a folder, its input lines on process groups: `+ID`, one was started; `-ID`, it was killed.
"""

import contextlib
import os
import shutil
import signal
import sys


def main(folder: str) -> None:
    """Until the input ends, which it does with the program; then kill what is left, and remove the folder."""
    # Who ends a whole job sends these to all of its processes; the end of the input comes in any case.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        change = groups.add if line.startswith(b"+") else groups.discard
        change(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
