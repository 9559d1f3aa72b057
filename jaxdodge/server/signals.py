"""Ctrl-C and SIGTERM end the server in time, also while it compiles."""

import os
import signal
import socket
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Time for an orderly end, s.
ORDERLY = 1.5


class SignalThread:
    """Ends the process on a signal: in order, or at once if that takes too long.

    Python's own handlers run in the main thread, which can spend half a minute in the compiler. So
    a thread reads the signal from the wakeup descriptor, which the interpreter writes to at once.

    Args:
        release: called by the thread before it ends the process at once.
    """

    def __init__(self, release: Callable[[], None]):
        self._release = release
        self._finished = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def start(self, end: Callable[[int], None]) -> None:
        """Handle signals from now on.

        Call it in the running event loop, because the loop sets a
        descriptor of its own when it starts.

        Args:
            end: called by the thread with the exit status; starts the orderly end.
        """
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._run, args=[end], name="signals", daemon=True).start()

    def finish(self) -> None:
        """The orderly end is complete."""
        self._finished.set()

    def _run(self, end: Callable[[int], None]) -> None:
        status = 128 + self._reader.recv(1)[0]
        end(status)
        if not self._finished.wait(ORDERLY):
            self._release()
            os._exit(status)
