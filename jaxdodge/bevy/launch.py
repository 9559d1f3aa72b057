"""Server processes of our own: started on free addresses, ended with everything that they have started."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from jaxdodge.bevy.client import ServerError
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line, one_line

# How long a server may take to end by itself, s.
GRACE = 2.0
# How long the kernel may take to end what was killed, s.
KILLED = 5.0
PAUSE = 0.02


class ExitedError(ServerError):
    """A server's process has ended, or could not be started."""


class Watchdog:
    """A process that kills servers and removes their folder if our own process dies without doing so.

    It reads a pipe of which nobody else has the other end, so the pipe ends with our process, however that
    dies. Whatever it is told of must not be waited for before it is told of the end.

    Args:
        folder: to be removed.
    """

    def __init__(self, folder: Path):
        script = Path(__file__).with_name("watchdog.py")
        # Without site packages, and apart from this folder, whose http.py is not Python's.
        command = [sys.executable, "-I", "-S", f"{script}", f"{folder}"]
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            # Who reads our output would else have to wait for the watchdog too.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def started(self, group: int) -> None:
        """Tell it of a process group."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """Tell it that a process group has been killed."""
        self._tell(f"-{group}\n")

    def end(self) -> None:
        """End it, and with it all that it has been told of; always returns."""
        assert self._process.stdin is not None
        for end in (self._process.stdin.close, self._process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # Somebody may have killed it; servers do without.
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())


class ServerProcess:
    """A server that a command starts, again and again, each time on a free address.

    Every start is a process group of its own in a session of its own: a terminal's Ctrl-C does not reach it,
    and what it starts ends with it. `start` and `stop` may be called from different threads.

    Args:
        command: split as a shell does, without running one; `{port}` and `{socket}` in it stand for a free
            TCP port of 127.0.0.1 and the path of a Unix socket in `folder`.
        url: of the server, with the same placeholders; None: unix://{socket} if the command has that,
            else http://127.0.0.1:{port}.
        folder: for the sockets.
        log: file that output is appended to.
        watchdog: is told of every process group.

    Raises:
        ConfigError: a command that cannot be split, or without a placeholder.
    """

    def __init__(self, command: str, url: str | None, folder: Path, log: Path, watchdog: Watchdog):
        accepted = "a command with {port} or {socket}"
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"server_command: invalid value {command!r} ({error}); expected {accepted}"
            ) from None
        if not any(name in part for part in self._command for name in ("{port}", "{socket}")):
            raise ConfigError(f"server_command: invalid value {command!r}; expected {accepted}")
        default = "unix://{socket}" if "{socket}" in command else "http://127.0.0.1:{port}"
        self._url = default if url is None else url
        self._socket = folder / f"{log.stem}.sock"
        self._log = log
        self._watchdog = watchdog
        self._log_start = 0
        self._lock = threading.Lock()
        self._ended = False
        self._port: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, which is its group's too; None if none runs."""
        return self._process.pid if self._process is not None else None

    def url(self, port: int = 1) -> str:
        """The URL of a server on this port."""
        return self._filled(self._url, port)

    def start(self) -> str:
        """Start the command and return the server's URL, where it may not answer yet. Raises ExitedError."""
        with self._lock:
            if self._ended:
                raise ExitedError(f"{self._command[0]}: not started, because everything is being ended")
            self._port, port = _reserved_port()
            command = [self._filled(part, port) for part in self._command]
            try:
                with self._log.open("ab") as log:
                    self._log_start = log.tell()
                    self._process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
            except OSError as error:
                raise ExitedError(f"{command[0]}: cannot be started ({error_line(error)})") from None
            self._watchdog.started(self._process.pid)
            return self.url(port)

    def exited(self) -> str | None:
        """How the process has ended, with its last line of output; None if it runs."""
        process = self._process
        how = _exit(process.pid) if process is not None else None
        return how and f"its process has exited ({how}); last output: {self._last_line()}"

    def terminate(self) -> None:
        """Ask the whole group to end."""
        with self._lock:
            self._signal(signal.SIGTERM)
            # What is stopped gets no other signal.
            self._signal(signal.SIGCONT)

    def end(self, expires: float) -> None:
        """Wait for the process until then, of `time.monotonic()`; then kill what is left of the group."""
        process = self._process
        while process is not None and _exit(process.pid) is None and time.monotonic() < expires:
            time.sleep(PAUSE)
        with self._lock:
            self.kill()
            self._process = None
            if self._port is not None:
                self._port.close()
            self._socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process; it may be started again."""
        self.terminate()
        self.end(time.monotonic() + GRACE)

    def forbid(self) -> None:
        """From now on nothing is started."""
        with self._lock:
            self._ended = True

    def kill(self) -> None:
        """Kill the group at once."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGKILL)
        self._watchdog.ended(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED)

    def _signal(self, number: signal.Signals) -> None:
        # Until the process is waited for, its id, which is the group's, is nobody else's.
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    def _filled(self, text: str, port: int) -> str:
        return text.replace("{port}", str(port)).replace("{socket}", str(self._socket))

    def _last_line(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(self._log_start, self._log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
            return next((one_line(line, 300) for line in reversed(lines) if line.strip()), "none")
        return "none"


def _exit(pid: int) -> str | None:
    """How a child has ended; None if it runs. Leaves it to be waited for, so that its id stays its own."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "unknown"
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return f"status {ended.si_status}"
    return signal.Signals(ended.si_status).name


def _reserved_port() -> tuple[socket.socket, int]:
    """A free port of 127.0.0.1, and the socket that keeps it from being given to anyone who asks for any.

    Otherwise two that start at the same time could be given the same one, and a client would reach the wrong
    server. A server that asks for this very port with SO_REUSEADDR, as servers do, gets it on Linux.
    """
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    if sys.platform == "linux":
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        reserved.close()
    return reserved, port
