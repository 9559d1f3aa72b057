"""A server for a benchmark, in a process of its own."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator


class Started:
    """A running server: its process, its seed's line, and its URLs."""

    def __init__(self, process: subprocess.Popen[str], addresses: int):
        assert process.stdout is not None
        self.process = process
        self.says = process.stdout.readline().strip()
        lines = [process.stdout.readline() for _ in range(addresses)]
        if not all(lines):
            sys.exit(f"the server ended with status {process.wait()}")
        self.urls = [line.split()[-1] for line in lines]


@contextlib.contextmanager
def started(*flags: str, addresses: int) -> Iterator[Started]:
    """`python -m jaxdodge.serve` with these flags, once so many addresses are listening."""
    command = [sys.executable, "-m", "jaxdodge.serve", *flags]
    # In a group of its own, so that Ctrl-C ends the benchmark first.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            yield Started(process, addresses)
        finally:
            process.terminate()
