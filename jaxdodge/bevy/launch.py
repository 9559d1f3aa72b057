"""Server processes: started on free addresses, ended together with their own child processes."""

import contextlib
import os
import secrets
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

# Time for a server to exit after SIGTERM, s.
GRACE = 2.0
# Time for a process to disappear after SIGKILL, s.
KILLED = 5.0
PAUSE = 0.02


# Variable in the environment of a server and of all that it starts.
MARK = "JAXDODGE_SERVER"


class ExitedError(ServerError):
    """The server's process has exited, or could not be started."""


class Watchdog:
    """A process that kills servers and removes their folder if this process dies without doing so.

    It reads a pipe whose other end only this process holds, so the pipe closes when this
    process dies in any way. A server must not be waited for before `ended`, because its
    process id could then be reused.

    Args:
        folder: the folder to remove.
    """

    def __init__(self, folder: Path):
        script = Path(__file__).with_name("watchdog.py")
        # -I: the script's folder is not searched for modules; -S: without
        # site packages it starts faster.
        command = [sys.executable, "-I", "-S", f"{script}", f"{folder}"]
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            # Otherwise a reader of this process's output would also wait for the watchdog.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def started(self, group: int) -> None:
        """Register a process group."""
        self._tell(f"+{group}\n")

    def ended(self, group: int) -> None:
        """Unregister a process group that has been killed."""
        self._tell(f"-{group}\n")

    def end(self) -> None:
        """End the watchdog and all registered process groups; always returns."""
        assert self._process.stdin is not None
        for end in (self._process.stdin.close, self._process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # The watchdog may have been killed; servers run without it.
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())


class ServerProcess:
    """A server that a command starts, any number of times, each time on a free address.

    Every start creates a new session and process group: a terminal's Ctrl-C does not reach it, and
    its child processes end with it. `start` and `stop` can be called from different threads.

    Args:
        command: split like a shell command, but not run by a shell. `{port}` stands for a free TCP
            port of 127.0.0.1, `{socket}` for the path of a Unix socket in `folder`.
        url: URL of the server, with the same placeholders. None: unix://{socket} if the command
            contains {socket}, else http://127.0.0.1:{port}.
        folder: folder for the sockets.
        log: file to which the output is appended.
        watchdog: registers every process group.

    Raises:
        ConfigError: the command cannot be split, or has no placeholder.
    """

    def __init__(self, command: str, url: str | None, folder: Path, log: Path, watchdog: Watchdog):
        expected = "a command with {port} or {socket}"
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"server_command: invalid value {command!r} ({error}); expected {expected}"
            ) from None
        if not any(name in part for part in self._command for name in ("{port}", "{socket}")):
            raise ConfigError(f"server_command: invalid value {command!r}; expected {expected}")
        default = "unix://{socket}" if "{socket}" in command else "http://127.0.0.1:{port}"
        self._url = default if url is None else url
        self._socket = folder / f"{log.stem}.sock"
        self._log = log
        self._watchdog = watchdog
        self._log_start = 0
        self._mark = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._ended = False
        self._port: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, also of its group; None if no process runs."""
        return self._process.pid if self._process is not None else None

    def url(self, port: int = 1) -> str:
        """The URL of a server on this port."""
        return self._filled(self._url, port)

    def start(self) -> str:
        """Start the command; returns the URL where the server will listen. Raises ExitedError."""
        with self._lock:
            if self._ended:
                raise ExitedError(f"{self._command[0]}: not started, because the fleet is being closed")
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
                        env=os.environ | {MARK: self._mark},
                    )
            except OSError as error:
                raise ExitedError(f"{command[0]}: cannot be started ({error_line(error)})") from None
            self._watchdog.started(self._process.pid)
            return self.url(port)

    def exited(self) -> str | None:
        """How the process has exited, with its last line of output; None while it runs."""
        process = self._process
        how = _exit(process.pid) if process is not None else None
        return how and f"its process has exited ({how}); last output: {self._last_line()}"

    def terminate(self) -> None:
        """Send SIGTERM to the whole group."""
        with self._lock:
            self._signal(signal.SIGTERM)
            # A stopped process does not handle other signals.
            self._signal(signal.SIGCONT)

    def end(self, expires: float) -> None:
        """Wait until `expires` (`time.monotonic()`) for the process; then kill its group."""
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
        """End the process; it can be started again."""
        self.terminate()
        self.end(time.monotonic() + GRACE)

    def forbid(self) -> None:
        """Start no further process."""
        with self._lock:
            self._ended = True

    def kill(self) -> None:
        """Kill the group at once."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGKILL)
        _kill_marked(self._mark)
        self._watchdog.ended(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(KILLED)

    def _signal(self, number: signal.Signals) -> None:
        # The id of the process and its group cannot be reused before the process is waited for.
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


def _kill_marked(mark: str) -> None:
    """Kill processes that left the group, as a command does that runs itself in the background."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            # The descriptor names this process, also if its id is used again.
            descriptor = os.pidfd_open(int(entry.parent.name))
            try:
                if wanted in entry.read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


def _exit(pid: int) -> str | None:
    """How a child has exited, None while it runs. It is not reaped, so its id is not reused."""
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
    """A free port of 127.0.0.1, and the bound socket that reserves it.

    Without the reservation two servers that start at the same time could get the same
    port, and a client would reach the wrong one. On Linux a server can still bind this
    port with SO_REUSEADDR, as servers do.
    """
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    if sys.platform == "linux":
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        reserved.close()
    return reserved, port
