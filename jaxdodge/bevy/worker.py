"""One server of a fleet: a thread that asks it, one request at a time, and what its answers must be."""

import concurrent.futures
import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdodge.bevy.client import (
    BadResponseError,
    Client,
    DeadlineError,
    Response,
    ServerError,
    UnreachableError,
)
from jaxdodge.bevy.launch import ExitedError, ServerProcess
from jaxdodge.bevy.play import begin, configure
from jaxdodge.config import GameConfig
from jaxdodge.sim.spaces import published_space

PAUSE = 0.05
# How long a process that has just broken its connection may take to be seen as exited, s.
EXITING = 0.5


class RestartedError(ServerError):
    """A server that is not in the episode that it was in: it has been restarted, or someone else uses it."""


class Thread:
    """A thread that carries out one task after the other.

    A daemon, unlike the threads of an executor, so that Python can always exit.
    """

    def __init__(self, name: str):
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        """The task's result to come."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._tasks.put((future, task, arguments))
        return future

    def end(self, expires: float) -> None:
        """Wait for all tasks until then, of `time.monotonic()`; after them the thread ends."""
        self._tasks.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, expires - time.monotonic()))

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            future, task, arguments = item
            try:
                future.set_result(task(*arguments))
            except BaseException as error:  # whoever waits for the result gets it
                future.set_exception(error)
            # Else the last task's arguments and result would live as long as the thread.
            del item, future, task, arguments


class Member:
    """What a fleet's thread does with its server. Its methods are called by that thread alone.

    Args:
        game: that the server is configured to play.
        client: of a server that is not ours; None if `process` starts it.
        process: of a server of ours.
        connect: makes the client of a URL.
        start_deadline: seconds from a server's start until it is configured.
        ending: set by another thread when everything is to end.
    """

    def __init__(
        self,
        game: GameConfig,
        client: Client | None,
        process: ServerProcess | None,
        connect: Callable[[str], Client],
        start_deadline: float,
        ending: threading.Event,
    ):
        self._game = game
        self._client = client
        self._process = process
        self._connect = connect
        self._start_deadline = start_deadline
        self._ending = ending
        space = published_space(game)
        self._low, self._high = space.low.min(), space.high.max()
        self._steps = self._episode_steps = 0

    def start(self, delay: float) -> Response:
        """Wait, start or reconnect, configure; the answer to the first reset. Raises ServerError."""
        self._pause(delay)
        if self._process is not None:
            self._process.stop()
            self.close()
            self._client = self._connect(self._process.start())
        expires = time.monotonic() + self._start_deadline
        while True:
            try:
                return self._asked(self._configure)
            except (UnreachableError, DeadlineError) as error:
                # Nothing of a start counts twice, so what may have been carried out is asked again.
                if time.monotonic() >= expires:
                    raise type(error)(f"{error}; given up after {self._start_deadline:g} s") from None
            self._pause(PAUSE)

    def reset(self) -> Response:
        """Begin an episode. Raises ServerError."""
        return self._asked(self._reset)

    def step(self, action: Any) -> Response:
        """Send an action; the answer belongs to it, and to the episode. Raises ServerError."""
        return self._asked(lambda client: self._step(client, action))

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _asked(self, ask: Callable[[Client], Response]) -> Response:
        assert self._client is not None
        try:
            response = ask(self._client)
        except ServerError as error:
            self._raise_if_exited(error)
            raise
        self._check_range(self._client, response)
        return response

    def _configure(self, client: Client) -> Response:
        configure(client, self._game)
        return self._reset(client)

    def _reset(self, client: Client) -> Response:
        response = begin(client.reset, client.url)
        self._steps = self._episode_steps = 0
        return response

    def _step(self, client: Client, action: Any) -> Response:
        response = client.step(action)
        self._steps += 1
        # The real server's count may lag behind, but it never goes back and never runs ahead.
        if not self._episode_steps <= response.episode_steps <= self._steps:
            raise RestartedError(
                f"{client.url}: after step {self._episode_steps} of an episode, and {self._steps} sent, "
                f"it is in step {response.episode_steps}: restarted, or somebody else plays on it"
            )
        self._episode_steps = response.episode_steps
        if response.episode_steps >= self._game.max_episode_steps:
            response = dataclasses.replace(response, truncated=True)
        return response

    def _check_range(self, client: Client, response: Response) -> None:
        values = response.observation
        outside = (values < self._low) | (values > self._high)
        if outside.any():
            index = int(np.argmax(outside))
            raise BadResponseError(
                f"{client.url}: observation[{index}] is {values[index]}, outside of its space "
                f"[{self._low:g}, {self._high:g}]"
            )

    def _raise_if_exited(self, error: ServerError) -> None:
        """Say that the process has exited, if that is why a request failed."""
        if self._process is None or self._client is None:
            return
        expires = time.monotonic() + (EXITING if isinstance(error, UnreachableError) else 0)
        while (how := self._process.exited()) is None and time.monotonic() < expires:
            time.sleep(EXITING / 50)
        if how is not None:
            raise ExitedError(f"{self._client.url}: {how}") from None

    def _pause(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise UnreachableError("everything is being ended")
