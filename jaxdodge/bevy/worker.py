"""A worker: one server of a fleet, its requests one at a time, and the checks of its responses."""

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
    ServerError,
    ServerTimeoutError,
    UnreachableError,
)
from jaxdodge.bevy.launch import ExitedError, ServerProcess
from jaxdodge.bevy.play import EpisodeClock, begin_episode, configure
from jaxdodge.bevy.responses import Response
from jaxdodge.config import GameConfig, step_limit_reached
from jaxdodge.sim.spaces import published_space

PAUSE = 0.05
# A process that exits breaks its connections up to this long before it is seen to have exited, s.
EXITING = 0.5


class RestartedError(ServerError):
    """The server has left the episode: it was restarted, or another client uses it."""


class WorkerThread:
    """A thread that runs one task after the other.

    Unlike the threads of an executor it is a daemon, so that Python can always exit.
    """

    def __init__(self, name: str):
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Callable[..., Any], *arguments: Any) -> concurrent.futures.Future[Any]:
        """Queue a task; returns the future of its result."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._tasks.put((future, task, arguments))
        return future

    def end(self, expires: float) -> None:
        """End the thread after its tasks; wait until `expires`, a time of `time.monotonic()`."""
        self._tasks.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, expires - time.monotonic()))

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            future, task, arguments = item
            try:
                future.set_result(task(*arguments))
            except BaseException as error:  # raised where the result is read
                future.set_exception(error)
            # Otherwise the last task's arguments and result would stay in memory.
            del item, future, task, arguments


class Worker:
    """Starts, configures and plays one server. Only the worker's own thread calls its methods.

    Args:
        game: what the server is configured to play.
        client: client of a running server; None if `process` starts it.
        process: the server to start; None for a running server.
        connect: creates the client of a URL.
        start_timeout: seconds from the start of a server until it is configured.
        ending: set by another thread to end the worker.
    """

    def __init__(
        self,
        game: GameConfig,
        client: Client | None,
        process: ServerProcess | None,
        connect: Callable[[str], Client],
        start_timeout: float,
        ending: threading.Event,
    ):
        self._game = game
        self._client = client
        self._process = process
        self._connect = connect
        self._start_timeout = start_timeout
        self._ending = ending
        space = published_space(game)
        self._low, self._high = space.low.min(), space.high.max()
        self._steps = self._episode_steps = 0
        self._clock = EpisodeClock("")

    def start(self, delay: float) -> Response:
        """Wait, (re)connect or start, configure; returns the response to
        a reset. Raises ServerError.
        """
        self._pause(delay)
        if self._process is not None:
            self._process.stop()
            self.close()
            self._client = self._connect(self._process.start())
        expires = time.monotonic() + self._start_timeout
        while True:
            try:
                return self._checked(self._configure)
            except (UnreachableError, ServerTimeoutError) as error:
                # Every request of a start may be carried out twice, so it is repeated.
                if time.monotonic() >= expires:
                    raise type(error)(f"{error}; given up after {self._start_timeout:g} s") from None
            self._pause(PAUSE)

    def reset(self) -> Response:
        """Begin an episode. Raises ServerError."""
        return self._checked(self._reset)

    def step(self, action: Any) -> Response:
        """Send an action; the response is checked to belong to the episode. Raises ServerError."""
        return self._checked(lambda client: self._step(client, action))

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _checked(self, request: Callable[[Client], Response]) -> Response:
        assert self._client is not None
        try:
            response = request(self._client)
        except ServerError as error:
            self._raise_if_exited(error)
            raise
        self._check_range(self._client, response)
        return response

    def _configure(self, client: Client) -> Response:
        configure(client, self._game)
        return self._reset(client)

    def _reset(self, client: Client) -> Response:
        response = begin_episode(client.reset, client.url)
        self._steps = self._episode_steps = 0
        self._clock = EpisodeClock(client.url)
        return response

    def _step(self, client: Client, action: Any) -> Response:
        response = client.step(action)
        self._steps += 1
        # The original's count may lag behind, but it never decreases and never runs ahead.
        if not self._episode_steps <= response.episode_steps <= self._steps:
            raise RestartedError(
                f"{client.url}: after step {self._episode_steps} of an episode, and {self._steps} sent, "
                f"it is in step {response.episode_steps}: restarted, or another client uses it"
            )
        self._episode_steps = response.episode_steps
        self._clock.check(response)
        if step_limit_reached(response.episode_steps, self._game.max_episode_steps):
            response = dataclasses.replace(response, truncated=True)
        return response

    def _check_range(self, client: Client, response: Response) -> None:
        values = response.observation
        outside = (values < self._low) | (values > self._high)
        if outside.any():
            index = int(np.argmax(outside))
            raise BadResponseError(
                f"{client.url}: observation[{index}] is {values[index]}, outside its space "
                f"[{self._low:g}, {self._high:g}]"
            )

    def _raise_if_exited(self, error: ServerError) -> None:
        """Raise ExitedError if a request failed because the process has exited."""
        if self._process is None or self._client is None:
            return
        expires = time.monotonic() + (EXITING if isinstance(error, UnreachableError) else 0)
        while (how := self._process.exited()) is None and time.monotonic() < expires:
            time.sleep(EXITING / 50)
        if how is not None:
            raise ExitedError(f"{self._client.url}: {how}") from None

    def _pause(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise UnreachableError("the fleet is being closed")
