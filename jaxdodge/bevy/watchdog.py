"""Kills the servers that a dead program has left; run as a script by
`jaxdodge.bevy.launch.Watchdog`.

The argument is a folder. Input lines are `+ID`, a process group was
started, and `-ID`, it was killed.
"""

import contextlib
import os
import shutil
import signal
import sys


def main(folder: str) -> None:
    """Read until the program dies and the input ends; then kill the groups, remove the folder."""
    # Signals to the whole job reach this process too; it still waits for the end of the input.
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
