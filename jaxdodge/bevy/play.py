"""Playing on a server, with a log of all requests and responses."""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxdodge.bevy import connect
from jaxdodge.bevy.client import BadResponseError, Client, ServerError, UnreachableError
from jaxdodge.bevy.policies import Policy
from jaxdodge.bevy.responses import Response
from jaxdodge.cli import Interrupt
from jaxdodge.config import SERVER_FIELDS, GameConfig
from jaxdodge.recordings.session import RESET, STEP
from jaxdodge.sim.actions import action_shape
from jaxdodge.sim.spaces import action_space, published_space

# Longest delay of a Ctrl-C during a pause, s.
LONGEST_SLEEP = 0.1
# Longest wait for a server that is just starting, s.
START_SECONDS = 5.0
# A reset is published within two frames, of at most 0.25 s each.
RESET_SECONDS = 1.0
# Steps after which the published count of steps must have changed. It may lag behind by a few.
STILL_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Episode:
    """A finished episode."""

    total_reward: float
    responses: int
    survived: bool
    """Truncated, not terminated."""


class Log:
    """All requests to a server and their responses, in order."""

    def __init__(self, game: GameConfig):
        discrete = game.action_space_type == "discrete"
        self._no_action = (
            np.array(-1, np.int32)
            if discrete
            else np.full(action_shape(game.action_space_type), np.nan, np.float32)
        )
        self._rows: list[tuple[int, float, float, np.ndarray, Response]] = []
        self._start = time.perf_counter()
        self._reward = 0.0
        self._responses = 0
        self.steps = 0
        self.episodes: list[Episode] = []

    def __len__(self) -> int:
        return len(self._rows)

    def restart_clock(self) -> None:
        """Restart the clock of `seconds`."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the clock was started."""
        return time.perf_counter() - self._start

    def request(self, client: Client, action: np.ndarray | None) -> Response:
        """Step, or reset if there is no action; a request without a response is not logged."""
        sent = self.seconds
        response = client.reset() if action is None else client.step(action)
        received = self.seconds
        kind = RESET if action is None else STEP
        self._rows.append((kind, sent, received, self._no_action if action is None else action, response))
        if action is None:
            self._reward, self._responses = 0.0, 0
            return response
        self.steps += 1
        self._reward += response.reward
        self._responses += 1
        if response.terminated or response.truncated:
            self.episodes.append(Episode(self._reward, self._responses, not response.terminated))
        return response

    def arrays(self) -> dict[str, np.ndarray]:
        """The log as the arrays of an API session, see `jaxdodge.recordings.session`."""
        kinds, sent, received, actions, responses = zip(*self._rows, strict=True)

        def of(name: str, dtype: Any) -> np.ndarray:
            return np.array([getattr(response, name) for response in responses], dtype)

        arrays: dict[str, np.ndarray] = {
            "kind": np.array(kinds, np.int8),
            "sent_s": np.array(sent, np.float64),
            "received_s": np.array(received, np.float64),
            "action": np.array(actions, self._no_action.dtype),
            "observation": of("observation", np.float32),
            "reward": of("reward", np.float32),
            "done": of("terminated", np.bool_),
            "truncated": of("truncated", np.bool_),
            "episode_steps": of("episode_steps", np.int32),
            "projectile_count": of("projectile_count", np.int32),
        }
        if responses[0].image is not None:
            arrays["image"] = of("image", np.uint8)
        return arrays


def server_fields(game: GameConfig) -> dict[str, Any]:
    """The fields that `configure` sends to make a server play a game."""
    return {name: getattr(game, name) for name in SERVER_FIELDS}


def configure(client: Client, game: GameConfig, seconds: float = 5.0) -> None:
    """Configure a server to play a game, and wait until it does.

    The server applies a configuration in a later frame, and until then its responses
    belong to the previous game. So this resets the server until its responses and
    its spaces are those of the game.

    Args:
        client: client of the server.
        game: the game to play.
        seconds: how long to wait.

    Raises:
        ServerError: the server failed, or still plays another game.
    """
    client.configure(**server_fields(game))
    expires = time.monotonic() + seconds
    while True:
        try:
            client.reset()
            _check_spaces(client, game)
            return
        except BadResponseError:
            if time.monotonic() > expires:
                raise
        time.sleep(0.05)


def trained_pause(game: GameConfig, url: str) -> float:
    """The pause after a step, in seconds, with which a server's step takes
    as many frames as in training.

    A gRPC response comes with a frame, so the pause ends midway between two frames. An HTTP
    response comes after 16 ms, at any time within a frame.
    """
    waiting = 0.016 * game.fps if url.startswith("http:") else 0.5
    return max(0.0, (game.frames_per_step - waiting) / game.fps)


def begin_episode(reset: Callable[[], Response], url: str) -> Response:
    """Reset a server until the response shows the reset; the first one can
    still be an older publication.

    Args:
        reset: sends a reset and returns the response.
        url: URL of the server, for the error.

    Raises:
        BadResponseError: no response showed the reset within RESET_SECONDS.
    """
    expires = time.monotonic() + RESET_SECONDS
    while (response := reset()).episode_steps:
        if time.monotonic() > expires:
            raise BadResponseError(
                f"{url}: in step {response.episode_steps} of an episode after {RESET_SECONDS:g} s of resets"
            )
    return response


class EpisodeClock:
    """Notices a server whose count of steps stands still: its episode would never end.

    Args:
        url: URL of the server, for the error.
    """

    def __init__(self, url: str):
        self._url = url
        self._count = self._still = 0

    def check(self, response: Response) -> None:
        """Call with every response to a step; raises BadResponseError after STILL_STEPS."""
        self._still = 0 if response.episode_steps != self._count else self._still + 1
        self._count = response.episode_steps
        if self._still >= STILL_STEPS:
            raise BadResponseError(
                f"{self._url}: in step {self._count} of an episode after {STILL_STEPS} further steps"
            )


def _check_spaces(client: Client, game: GameConfig) -> None:
    observation, action = client.observation_space(), client.action_space()
    actions = action_space(game)
    same_actions = (action.n, action.shape) == (getattr(actions, "n", None), actions.shape)
    if observation.shape != published_space(game).shape or not same_actions:
        raise BadResponseError(
            f"{client.url}: configured as {game.observation_mode} and {game.action_space_type}, but "
            f"its spaces are {observation} and {action}"
        )


@dataclasses.dataclass(frozen=True)
class Played:
    """The result of playing."""

    url: str
    game: GameConfig
    think_seconds: float
    log: Log
    status: int
    """Exit status: 0 finished, 1 the server failed, 130 or 143 stopped by a signal."""
    stopped: str | None
    """Why it stopped early; None if it did not."""


def play(
    url: str,
    timeout: float,
    game: GameConfig,
    policy: Policy,
    think_seconds: float,
    finished: Callable[[Log], bool],
) -> Played:
    """Configure a server and play episodes on it until finished, a
    signal arrives or the server fails.

    A server that is just starting has START_SECONDS to listen. If playing stops early, the reason
    is printed to standard error.

    Args:
        url: URL of the server, see `jaxdodge.bevy.connect`.
        timeout: seconds for every call.
        game: the game to play, which the policy was made for.
        policy: the policy that plays.
        think_seconds: minimum time from the response to a step until the next step.
        finished: tells whether to stop; called before every request.

    Raises:
        ConfigError: invalid URL, or a missing extra.
    """
    log = Log(game)
    client, status, stopped = None, 0, None
    with Interrupt() as interrupt:
        try:
            client = connect(url, timeout)
            _configure_once_it_listens(client, game, timeout, lambda: interrupt.signal is not None)
            log.restart_clock()
            _play(client, policy, log, think_seconds, lambda: finished(log) or interrupt.signal is not None)
        except ServerError as error:
            status, stopped = 1, str(error)
        finally:
            if client is not None:
                client.close()
    if not stopped and interrupt.signal is not None and not finished(log):
        status, stopped = 128 + interrupt.signal, interrupt.reason()
    if stopped:
        print(f"stopped: {stopped}", file=sys.stderr, flush=True)
    return Played(url, game, think_seconds, log, status, stopped)


def _configure_once_it_listens(
    client: Client, game: GameConfig, timeout: float, stop: Callable[[], bool]
) -> None:
    expires, waiting = time.monotonic() + START_SECONDS, False
    while True:
        try:
            return configure(client, game, timeout)
        except UnreachableError as error:
            if stop() or time.monotonic() > expires:
                raise
            if not waiting:
                print(f"{error}; waiting up to {START_SECONDS:g} s", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(LONGEST_SLEEP)


def _play(client: Client, policy: Policy, log: Log, think_seconds: float, stop: Callable[[], bool]) -> None:
    while not stop():
        policy.reset()
        response = begin_episode(lambda: log.request(client, None), client.url)
        pause_ends, clock = log.seconds, EpisodeClock(client.url)
        while not (response.terminated or response.truncated or stop()):
            # The policy computes during the pause, so that it does not lengthen the step.
            action = policy.act(response.published)
            while (left := pause_ends - log.seconds) > 0 and not stop():
                time.sleep(min(left, LONGEST_SLEEP))
            if stop():
                break
            response = log.request(client, action)
            clock.check(response)
            pause_ends = log.seconds + think_seconds
