"""A server for a benchmark, in its own process."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator


class ServerProcess:
    """A running server.

    Args:
        process: that has just been started.
        addresses: on which it listens; it prints a line for each.
    """

    def __init__(self, process: subprocess.Popen[str], addresses: int):
        assert process.stdout is not None
        self.process = process
        # The first line is that of the seed.
        lines = [process.stdout.readline() for _ in range(addresses + 1)]
        if not all(lines):
            sys.exit(f"the server ended with status {process.wait()}")
        self.urls = [line.split()[-1] for line in lines[1:]]


@contextlib.contextmanager
def started(*flags: str, addresses: int) -> Iterator[ServerProcess]:
    """`jaxdodge serve` with these flags; ready once it listens on so many addresses."""
    command = [sys.executable, "-m", "jaxdodge.serve", *flags]
    # In its own process group, so that Ctrl-C ends the benchmark first.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            yield ServerProcess(process, addresses)
        finally:
            process.terminate()
