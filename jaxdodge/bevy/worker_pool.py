"""Asking many servers at once: bounded waits, restarts within a budget, an end that leaves nothing behind."""

import collections
import concurrent.futures
import contextlib
import dataclasses
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
    DeadlineError,
    RefusedError,
    Response,
    ServerError,
    UnreachableError,
)
from jaxdodge.bevy.launch import GRACE, KILLED, ExitedError, ServerProcess, Watchdog
from jaxdodge.bevy.play import RESET_SECONDS
from jaxdodge.bevy.worker import Member, RestartedError, Thread
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.files import error_line

CAUSES: dict[type[ServerError], str] = {
    ExitedError: "exited",
    UnreachableError: "unreachable",
    DeadlineError: "deadline",
    BadResponseError: "bad_response",
    RefusedError: "refused",
    RestartedError: "restarted",
}
# How much later than its deadline a thread's answer may come, s.
SLACK = 1.0
# Calls of a start after the server's first answer: configure, resets, spaces.
CALLS_OF_START = 10
# Waiting before the second restart in a row, doubled before every further one, s.
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

Kind = Literal["start", "reset", "step"]


class FleetError(Exception):
    """A fleet that cannot go on, and why."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How long servers may take, and how often they may fail; see `jaxdodge.bevy.fleet.Fleet`. Seconds."""

    deadline: float
    start_deadline: float
    max_restarts: int
    restart_window: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of a request, or has not come."""

    kind: Kind
    response: Response | None
    """None: failed, or still starting."""


@dataclasses.dataclass(frozen=True)
class _Request:
    """What a member has been asked. Once it is given up it is forgotten, and so is its answer."""

    kind: Kind
    answer: "Future[Response]"
    expires: float


class _Place:
    """One server, as seen from the thread that asks."""

    def __init__(self, name: str, member: Member):
        self.name = name
        self.member = member
        self.thread = Thread(f"jaxdodge {name}")
        self.request: _Request | None = None
        self.started = False
        self.ended = True
        """No episode is going on."""
        self.failures = 0
        """In a row, without a step between."""
        self.restarts: collections.deque[float] = collections.deque()
        """Times of `time.monotonic()`."""


class Crew:
    """Servers, each with a thread of its own that asks it. Used by one thread.

    Args:
        game: that all are configured to play.
        limits: of all.
        count: how many the command starts.
        urls: of servers that run already; empty if a command starts them.
        command: see `ServerProcess`.
        server_url: see `ServerProcess`.
        log_folder: for the output of processes.

    Raises:
        ConfigError: a refused URL, command or folder.
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

        def connected(url: str) -> Client:
            return connect(url, limits.deadline)

        def member(client: Client | None, process: ServerProcess | None) -> Member:
            return Member(game, client, process, connected, limits.start_deadline, self._ending)

        with contextlib.ExitStack() as stack:  # what is refused leaves nothing behind
            self._processes = []
            if command is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxdodge-")))
                watchdog = Watchdog(folder)
                stack.callback(watchdog.end)
                logs = _made(folder if log_folder is None else log_folder)
                self._processes = [
                    ServerProcess(command, server_url, folder, logs / f"server_{number}.log", watchdog)
                    for number in range(count)
                ]
                connected(self._processes[0].url()).close()
            members = {
                **{
                    f"server {number} ({url})": member(connected(url), None)
                    for number, url in enumerate(urls)
                },
                **{f"server {number}": member(None, each) for number, each in enumerate(self._processes)},
            }
            self._cleanup = stack.pop_all()
        self._places = [_Place(name, member) for name, member in members.items()]

    def process_ids(self) -> dict[int, int]:
        """Process ids of the servers that are ours and run, by the server's number."""
        return {
            number: process.pid for number, process in enumerate(self._processes) if process.pid is not None
        }

    def reset(self) -> list[Answer]:
        """Begin an episode on every server, and wait for all of them. Raises FleetError."""
        for place in self._places:
            if not place.started:
                place.started = True
                self._ask(place, "start", 0.0)
            elif place.request is None:
                self._ask(place, "reset")
        answers: dict[int, Answer] = {}
        while len(answers) < len(self._places):
            waiting = [number for number in range(len(self._places)) if number not in answers]
            self._wait([self._places[number] for number in waiting], FIRST_COMPLETED)
            for number in waiting:
                answer = self._answer(self._places[number])
                if answer.response is not None:
                    answers[number] = answer
        return [answers[number] for number in range(len(self._places))]

    def step(self, actions: Iterable[Any]) -> list[Answer]:
        """Step every server that is there, reset it if its episode has ended, and wait for those.

        Where none is there, wait for the first one to be back. Raises FleetError.
        """
        playing = [place for place in self._places if place.request is None]
        for place, action in zip(self._places, actions, strict=True):
            if place.request is None and place.ended:
                self._ask(place, "reset")
            elif place.request is None:
                self._ask(place, "step", action)
        self._wait(playing, ALL_COMPLETED)
        answers = [self._answer(place) for place in self._places]
        while not playing and all(answer.response is None for answer in answers):
            self._wait(self._places, FIRST_COMPLETED)
            answers = [self._answer(place) for place in self._places]
        return answers

    def end(self) -> None:
        """End all processes and threads; always returns, whatever state they are in."""
        self._ending.set()
        try:
            for process in self._processes:
                process.forbid()
                process.terminate()
            expires = time.monotonic() + GRACE
            for process in self._processes:
                process.end(expires)
            for place in self._places:
                place.thread.submit(place.member.close)
            expires = time.monotonic() + 2 * self._limits.deadline + SLACK
            for place in self._places:
                place.thread.end(expires)
        finally:
            for process in self._processes:
                process.kill()
            self._cleanup.close()

    def _ask(self, place: _Place, kind: Kind, *arguments: Any) -> None:
        seconds = self._limits.deadline
        if kind == "start":
            # The thread keeps its own, shorter times; this one is for a thread that hangs.
            seconds = sum(arguments) + GRACE + KILLED + self._limits.start_deadline + CALLS_OF_START * seconds
        else:
            self.counters["requests"] += 1
            seconds += RESET_SECONDS if kind == "reset" else 0.0
        answer = place.thread.submit(getattr(place.member, kind), *arguments)
        place.request = _Request(kind, answer, time.monotonic() + seconds + SLACK)

    def _wait(self, places: Sequence[_Place], until: str) -> None:
        """Until all or the first of them have answered, or their time is over."""
        requests = [place.request for place in places if place.request is not None]
        if not requests:
            return
        begun = time.monotonic()
        expire = [request.expires for request in requests]
        expires = min(expire) if until == FIRST_COMPLETED else max(expire)
        futures = [request.answer for request in requests]
        concurrent.futures.wait(futures, max(0.0, expires - begun), until)
        self.seconds_waited += time.monotonic() - begun

    def _answer(self, place: _Place) -> Answer:
        """What came of the place's request. After a failure it is being restarted. Raises FleetError."""
        request = place.request
        assert request is not None
        late = time.monotonic() >= request.expires
        if not request.answer.done() and not late:
            return Answer(request.kind, None)
        place.request = None
        error = (
            request.answer.exception()
            if request.answer.done()
            else DeadlineError(f"{place.name}: its thread has not answered in time")
        )
        if error is None:
            response = request.answer.result()
            place.ended = response.terminated or response.truncated
            if request.kind == "step":
                place.failures = 0
            return Answer(request.kind, response)
        if not isinstance(error, ServerError):
            raise error
        self._failed(place, request.kind, error)
        return Answer(request.kind, None)

    def _failed(self, place: _Place, kind: Kind, error: ServerError) -> None:
        """Restart within the budget."""
        self.counters[f"faults_{CAUSES[type(error)]}"] += 1
        self.counters["dropped_transitions"] += kind == "step"
        if kind == "start" and isinstance(error, RefusedError):
            raise FleetError(f"{place.name} does not play this game: {error}")
        now, limits = time.monotonic(), self._limits
        while place.restarts and place.restarts[0] < now - limits.restart_window:
            place.restarts.popleft()
        if len(place.restarts) >= limits.max_restarts:
            raise FleetError(
                f"{place.name} has used up its max_restarts of {limits.max_restarts} within "
                f"{limits.restart_window:g} s; the last error: {error}"
            )
        place.restarts.append(now)
        place.failures += 1
        self.counters["restarts"] += 1
        delay = (
            min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(place.failures - 2, 10)) if place.failures > 1 else 0.0
        )
        self._ask(place, "start", delay)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"log_folder: invalid value {folder}; {error_line(error)}") from None
    return folder
