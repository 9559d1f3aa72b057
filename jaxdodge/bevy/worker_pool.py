"""Requests to many servers at once: timeouts, restarts within a budget, and a complete clean-up."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future
from pathlib import Path
from typing import Any, Literal

from jaxdodge.bevy import connect
from jaxdodge.bevy.client import (
    BadResponseError,
    Client,
    RefusedError,
    ServerError,
    ServerTimeoutError,
    UnreachableError,
)
from jaxdodge.bevy.launch import GRACE, KILLED, ExitedError, ServerProcess, Watchdog
from jaxdodge.bevy.play import RESET_SECONDS
from jaxdodge.bevy.responses import Response
from jaxdodge.bevy.worker import RestartedError, Worker, WorkerThread
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

CAUSES: dict[type[ServerError], str] = {
    ExitedError: "exited",
    UnreachableError: "unreachable",
    ServerTimeoutError: "timeout",
    BadResponseError: "bad_response",
    RefusedError: "refused",
    RestartedError: "restarted",
}
# Time that a thread may take beyond the timeout of its request, s.
SLACK = 1.0
# Calls of a start after the server's first response: configure, resets, spaces.
CALLS_OF_START = 10
# Delay of the second restart in a row, s; doubled for every further one.
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

Kind = Literal["start", "reset", "step"]


class FleetError(Exception):
    """A fleet that cannot go on, with the reason."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on time, in seconds, and on failures of servers; see `jaxdodge.bevy.fleet.Fleet`."""

    timeout: float
    start_timeout: float
    max_restarts: int
    restart_window: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a request."""

    kind: Kind
    response: Response | None
    """None if the request failed, or has no response yet."""


@dataclasses.dataclass(frozen=True)
class _Request:
    """A request to a worker. If it times out, it is dropped together with a late response."""

    kind: Kind
    future: "Future[Response]"
    expires: float


class _Server:
    """State of one server in the thread that uses the pool."""

    def __init__(self, name: str, worker: Worker):
        self.name = name
        self.worker = worker
        self.thread = WorkerThread(f"jaxdodge {name}")
        self.request: _Request | None = None
        self.started = False
        self.ended = True
        """Whether its episode has ended."""
        self.failures = 0
        """Failures in a row, without a step between."""
        self.restarts: collections.deque[float] = collections.deque()
        """Times of `time.monotonic()`."""
        self.noticed: dict[str, float] = {}
        """When a fault of each cause was last noticed, `time.monotonic()`."""
        self.away_since: float | None = None
        """When the noticed fault came from which it is not back."""


class WorkerPool:
    """Servers with a worker thread each. One thread uses the pool.

    Args:
        game: what all servers are configured to play.
        limits: limits of each server.
        count: number of servers that the command starts.
        urls: URLs of running servers; empty if a command starts them.
        command: see `ServerProcess`.
        server_url: see `ServerProcess`.
        log_folder: folder for the output of processes.

    Raises:
        ConfigError: invalid URL, command or folder.
    """

    def __init__(
        self,
        game: GameConfig,
        limits: Limits,
        count: int,
        urls: Sequence[str],
        command: str | None,
        server_url: str | None,
        log_folder: Path | None,
    ):
        self._limits = limits
        self._ending = threading.Event()
        self.counters = collections.Counter[str]({"requests": 0, "dropped_transitions": 0, "restarts": 0})
        self.seconds_waited = 0.0
        self.notices: collections.deque[str] = collections.deque()
        """Lines about servers that fail and come back; whoever shows them removes them.

        Of each server and cause at most one of either within the window of restarts."""

        def connected(url: str) -> Client:
            return connect(url, limits.timeout, "server_url" if command is not None else "urls")

        def worker(client: Client | None, process: ServerProcess | None) -> Worker:
            return Worker(game, client, process, connected, limits.start_timeout, self._ending)

        with contextlib.ExitStack() as stack:
            self._processes = []
            if command is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxdodge-")))
                watchdog = Watchdog(folder)
                stack.callback(watchdog.end)
                logs = _created(folder if log_folder is None else log_folder)
                self._processes = [
                    ServerProcess(command, server_url, folder, logs / f"server_{number}.log", watchdog)
                    for number in range(count)
                ]
                connected(self._processes[0].url()).close()
            workers = [worker(connected(url), None) for url in urls]
            workers += [worker(None, process) for process in self._processes]
            self._cleanup = stack.pop_all()
        # Threads start last, because an invalid URL must not leave any.
        self._servers = [_Server(f"server {number}", worker) for number, worker in enumerate(workers)]

    def process_ids(self) -> dict[int, int]:
        """Process ids of the started servers that run, by the server's number."""
        return {
            number: process.pid for number, process in enumerate(self._processes) if process.pid is not None
        }

    def reset(self) -> list[Outcome]:
        """Begin an episode on every server and wait for all. Raises FleetError."""
        for server in self._servers:
            if not server.started:
                server.started = True
                self._submit(server, "start", 0.0)
            elif server.request is None:
                self._submit(server, "reset")
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < len(self._servers):
            waiting = [number for number in range(len(self._servers)) if number not in outcomes]
            self._wait([self._servers[number] for number in waiting], FIRST_COMPLETED)
            for number in waiting:
                outcome = self._outcome(self._servers[number])
                if outcome.response is not None:
                    outcomes[number] = outcome
        return [outcomes[number] for number in range(len(self._servers))]

    def step(self, actions: Iterable[Any]) -> list[Outcome]:
        """Step every available server, or reset it if its episode has ended, and wait for these.

        If no server is available, wait for the first one. Raises FleetError.
        """
        playing = [server for server in self._servers if server.request is None]
        for server, action in zip(self._servers, actions, strict=True):
            if server.request is None and server.ended:
                self._submit(server, "reset")
            elif server.request is None:
                self._submit(server, "step", action)
        self._wait(playing, ALL_COMPLETED)
        outcomes = [self._outcome(server) for server in self._servers]
        while not playing and all(outcome.response is None for outcome in outcomes):
            self._wait(self._servers, FIRST_COMPLETED)
            outcomes = [self._outcome(server) for server in self._servers]
        return outcomes

    def end(self) -> None:
        """End all processes and threads, whatever their state; always returns."""
        self._ending.set()
        try:
            for process in self._processes:
                process.forbid()
                process.terminate()
            expires = time.monotonic() + GRACE
            for process in self._processes:
                process.end(expires)
            for server in self._servers:
                server.thread.submit(server.worker.close)
            expires = time.monotonic() + 2 * self._limits.timeout + SLACK
            for server in self._servers:
                server.thread.end(expires)
        finally:
            for process in self._processes:
                process.kill()
            self._cleanup.close()

    @property
    def closing(self) -> bool:
        """Whether `end` was called, perhaps by another thread."""
        return self._ending.is_set()

    def _check_open(self) -> None:
        # A thread that ends takes no further task, so waiting for it would last until the timeout.
        if self.closing:
            raise FleetError("the fleet is closed")

    def _submit(self, server: _Server, kind: Kind, *arguments: Any) -> None:
        seconds = self._limits.timeout
        if kind == "start":
            # The worker has its own, shorter timeouts; this one is for a thread that hangs.
            seconds = sum(arguments) + GRACE + KILLED + self._limits.start_timeout + CALLS_OF_START * seconds
        else:
            self.counters["requests"] += 1
            seconds += RESET_SECONDS if kind == "reset" else 0.0
        future = server.thread.submit(getattr(server.worker, kind), *arguments)
        server.request = _Request(kind, future, time.monotonic() + seconds + SLACK)

    def _wait(self, servers: Sequence[_Server], until: str) -> None:
        """Wait until all or the first of them have responded, or their time is over."""
        self._check_open()
        requests = [server.request for server in servers if server.request is not None]
        if not requests:
            return
        begun = time.monotonic()
        expire = [request.expires for request in requests]
        expires = min(expire) if until == FIRST_COMPLETED else max(expire)
        futures = [request.future for request in requests]
        concurrent.futures.wait(futures, max(0.0, expires - begun), until)
        self.seconds_waited += time.monotonic() - begun

    def _outcome(self, server: _Server) -> Outcome:
        """The outcome of the server's request; a failed server is restarted. Raises FleetError."""
        request = server.request
        assert request is not None
        error: BaseException | None
        if request.future.done():
            error = request.future.exception()
        elif time.monotonic() < request.expires:
            return Outcome(request.kind, None)
        else:
            error = ServerTimeoutError("its thread did not respond in time")
        server.request = None
        if error is None:
            response = request.future.result()
            server.ended = response.terminated or response.truncated
            if request.kind == "step":
                server.failures = 0
            if server.away_since is not None:
                self.notices.append(f"{server.name}: back after {time.monotonic() - server.away_since:.1f} s")
                server.away_since = None
            return Outcome(request.kind, response)
        if not isinstance(error, ServerError):
            raise error
        self._failed(server, request.kind, error)
        return Outcome(request.kind, None)

    def _failed(self, server: _Server, kind: Kind, error: ServerError) -> None:
        """Count a failure and restart the server; raises FleetError when the budget is used up."""
        self._check_open()
        cause = CAUSES[type(error)]
        self.counters[f"faults_{cause}"] += 1
        self.counters["dropped_transitions"] += kind == "step"
        if kind == "start" and isinstance(error, RefusedError):
            raise FleetError(f"{server.name} cannot play this game: {error}")
        now, limits = time.monotonic(), self._limits
        while server.restarts and server.restarts[0] < now - limits.restart_window:
            server.restarts.popleft()
        if len(server.restarts) >= limits.max_restarts:
            raise FleetError(
                f"{server.name} has used up its max_restarts of {limits.max_restarts} within "
                f"{limits.restart_window:g} s; the last error: {error}"
            )
        if now - server.noticed.get(cause, -math.inf) >= limits.restart_window:
            server.noticed[cause] = now
            server.away_since = server.away_since or now
            answer = "restarting it" if self._processes else "reconnecting"
            self.notices.append(f"{server.name}: {error}; {answer}")
        server.restarts.append(now)
        server.failures += 1
        self.counters["restarts"] += 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(server.failures - 2, 10))
        self._submit(server, "start", delay if server.failures > 1 else 0.0)


def _created(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"log_folder: invalid value {folder}; {error_line(error)}") from None
    return folder
