"""Servers in processes of their own, each ended by whoever starts it."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

# For every single wait; a slow machine compiles for a minute.
SECONDS = 180.0
SEED = 7


class Server:
    """A running server: its lines, its addresses by kind, one per arena."""

    def __init__(self, process, output, errors):
        self.process, self._output, self._errors = process, output, errors
        self.log: Path | None = None

    @property
    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def addresses(self, kind: str) -> list[str]:
        return [
            line.split()[-1] for line in self.lines if line.startswith("arena ") and f" {kind}://" in line
        ]

    @property
    def http(self) -> str:
        return self.addresses("http")[0]

    def requests(self) -> int:
        """How many have come to the first arena; the last must be a reset or a step."""
        return json.loads(self.log.read_text().splitlines()[-1])["request"]

    def end(self, number=signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=SECONDS)


@contextlib.contextmanager
def running(folder, *flags):
    """A server with these flags, once all its addresses are listening."""
    output, errors = (folder / f"{uuid.uuid4()}.{name}" for name in ("out", "err"))
    with output.open("w") as out, errors.open("w") as err:
        command = [sys.executable, "-m", "jaxdodge.serve", *map(str, flags)]
        process = subprocess.Popen(command, stdout=out, stderr=err)
    server = Server(process, output, errors)
    try:
        expires = time.monotonic() + SECONDS
        # The addresses are printed together, once all of them are listening.
        while len(server.lines) < 2:
            assert process.poll() is None, server.errors
            assert time.monotonic() < expires, server.lines
            time.sleep(0.02)
        yield server
    finally:
        process.kill()
        process.wait()
