"""Many servers as one Gymnasium vector environment that survives crashes, hangs and bad data."""

import collections
import contextlib
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxdodge.bevy.worker_pool import FleetError, Limits, Outcome, WorkerPool
from jaxdodge.config import SERVER_EPISODE_STEPS, GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.actions import action_shape
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.gym import to_numpy
from jaxdodge.sim.spaces import action_space, observation_space, published_space

__all__ = ["Fleet", "FleetError"]

SECONDS = Number(float, 0, 1e6, above_low=True)


class Fleet(VectorEnv):
    """A vector environment of N servers, one environment each. The first
    `reset` starts or connects them.

    The autoreset mode is NEXT_STEP: the row after the end of an episode ignores its action and
    holds the first observation of the next episode. A server that fails (it exits, hangs, is too
    slow, was restarted or sends an invalid response) is restarted, or reconnected if the fleet did
    not start it. Meanwhile the others go on:

    - The step without a response is dropped. Its row, and every further row until the server is
      back, has reward 0, is truncated, and repeats the last observation received.
    - The row in which the server is back holds the first observation of a
      new episode and is `restarted`.
    - While no server is available, `step` waits for the first one.

    **A row is a transition only where `info["valid"]` is true**: from the observation of the row
    before, with the action, reward and flags of this row, to the observation of this row.
    `info["dropped"]` marks the row of a dropped step: the transition before it is the last of its
    episode, truncated. `jaxdodge.bevy.transitions.Transitions` collects transitions by these rules.
    `info` also holds `restarted`, and `episode_steps` and `projectile_count` where a server has
    responded; every key has its mask (`_valid`, ...).

    Spaces are those of `jaxdodge.sim.gym.DodgeVectorEnv`. Rewards are float64 (num_envs,), flags
    bool (num_envs,). Every wait has a timeout. Any exception in `reset` or `step` other than
    invalid arguments closes the fleet, including Ctrl-C.

    Args:
        game: what the servers are configured to play. `fps`, `frames_per_step` and `response_frame`
            describe how they run; servers cannot be told these.
        urls: URLs of running servers, see `jaxdodge.bevy.connect`.
        server_command: command that starts a server, instead of `urls`; see
            `jaxdodge.bevy.launch.ServerProcess`.
        num_envs: number of servers to start.
        server_url: URL of a started server, with the placeholders of the command. Default:
            unix://{socket} if the command contains {socket}, else http://127.0.0.1:{port}.
        timeout: seconds to wait for a response.
        start_timeout: seconds from the start of a server until it is configured.
        max_restarts: restarts of one server within `restart_window`; one more raises FleetError.
        restart_window: seconds.
        log_folder: keeps the output of started servers as server_0.log, ...; by default it is
            deleted when the fleet is closed.

    Raises:
        ConfigError: invalid arguments.
        FleetError: from `reset` and `step`: a server has used up its restarts, or refuses the game.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        game: GameConfig | None = None,
        *,
        urls: Sequence[str] | None = None,
        server_command: str | None = None,
        num_envs: int | None = None,
        server_url: str | None = None,
        timeout: float = 5.0,
        start_timeout: float = 120.0,
        max_restarts: int = 5,
        restart_window: float = 600.0,
        log_folder: str | Path | None = None,
    ):
        self.game = GameConfig() if game is None else game
        longest = Number(int, 1, SERVER_EPISODE_STEPS, note="the server's own limit")
        longest.check("max_episode_steps", self.game.max_episode_steps)
        limits = Limits(
            SECONDS.check("timeout", timeout),
            SECONDS.check("start_timeout", start_timeout),
            Number(int, 0).check("max_restarts", max_restarts),
            SECONDS.check("restart_window", restart_window),
        )
        if urls is not None:
            self.num_envs = _checked_urls(urls, server_command, num_envs, server_url)
        elif server_command is not None:
            self.num_envs = Number(int, 1).check("num_envs", num_envs)
        else:
            raise ConfigError("urls, server_command: missing; expected one of them")
        env = DodgeEnv(self.game)
        self.single_observation_space = observation_space(self.game)
        self.single_action_space = action_space(self.game)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._history = _History(env, self.num_envs)
        self._was_reset = False
        self._pool = WorkerPool(
            self.game,
            limits,
            self.num_envs,
            urls or [],
            server_command,
            server_url,
            None if log_folder is None else Path(log_folder),
        )
        # Runs also when the fleet is garbage-collected and when Python exits. If Python is killed,
        # the watchdog ends the servers.
        self._end = weakref.finalize(self, self._pool.end)

    @property
    def counters(self) -> dict[str, float]:
        """Counters since the start.

        `requests` (steps and resets), `dropped_transitions`, `restarts`, failures by cause
        (`faults_exited`, `faults_timeout`, ...), and `seconds_waited` for responses.
        """
        return {**self._pool.counters, "seconds_waited": self._pool.seconds_waited}

    @property
    def notices(self) -> collections.deque[str]:
        """Lines about servers that fail and come back; whoever shows them removes them."""
        return self._pool.notices

    def summary(self) -> str:
        """The counters in one line."""
        counters = self.counters
        causes = ", ".join(
            f"{name.removeprefix('faults_').replace('_', ' ')} {count}"
            for name, count in counters.items()
            if name.startswith("faults_")
        )
        return (
            f"{_counted(counters['requests'], 'request')}, "
            f"{_counted(counters['dropped_transitions'], 'transition')} dropped, "
            f"{_counted(counters['restarts'], 'restart')}{f' ({causes})' if causes else ''}, "
            f"{counters['seconds_waited']:.1f} s waited"
        )

    @property
    def process_ids(self) -> dict[int, int]:
        """Process ids of the running servers by number; each is also
        the id of its process group.
        """
        return self._pool.process_ids()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode on every server, also on those being restarted;
        returns observations and info.

        Args:
            seed: seed of this object's own generator; servers cannot be seeded.
            options: must be empty.
        """
        if options:
            raise ValueError(f"options: invalid value {options!r}; expected none")
        self._check_open()
        super().reset(seed=seed)
        first = not self._was_reset
        with self._closed_by_errors():
            outcomes = self._pool.reset()
            for server, outcome in enumerate(outcomes):
                self._history.add(server, outcome, None)
        self._was_reset = True
        info = _info(outcomes)
        if first:
            info["restarted"][:] = False
        return self._history.observations(), info

    def step(self, actions: Any) -> Any:
        """Step every available server; returns observations, rewards,
        terminations, truncations, info.

        Raises:
            ValueError: invalid actions; nothing was sent.
            ResetNeeded: before the first reset.
            FleetError: a server has used up its restarts.
        """
        self._check_open()
        if not self._was_reset:
            raise ResetNeeded("reset() must come before the first step()")
        checked = checked_actions(actions, self.game.action_space_type, self.num_envs)
        with self._closed_by_errors():
            outcomes = self._pool.step(checked)
            for server, outcome in enumerate(outcomes):
                self._history.add(server, outcome, checked[server])
            observations = self._history.observations()
        responses = [outcome.response for outcome in outcomes]
        rewards = np.array([0.0 if each is None else each.reward for each in responses], np.float64)
        terminations = np.array([each is not None and each.terminated for each in responses])
        truncations = np.array([each is None or each.truncated for each in responses])
        return observations, rewards, terminations, truncations, _info(outcomes)

    def close_extras(self, **kwargs: Any) -> None:
        """End all processes and threads; always returns."""
        self._end()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the fleet is closed")

    @contextlib.contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        # Pending responses would be taken for those to the next call.
        try:
            yield
        except BaseException as error:
            by_another = self._pool.closing
            self.close()
            if by_another and isinstance(error, Exception):
                raise ClosedEnvironmentError("the fleet was closed by another thread") from None
            raise


class _History:
    """The last published observations of every server, for the frame stack."""

    def __init__(self, env: DodgeEnv, num_envs: int):
        game, published = env.config, published_space(env.config)
        shape = action_shape(game.action_space_type)
        self._stack = jax.jit(jax.vmap(env.stack))
        self._published = np.zeros((num_envs, game.frame_stack, *published.shape), published.dtype)
        self._time = np.zeros(num_envs, np.int32)
        self._action = np.zeros((num_envs, *shape), np.float32 if shape else np.int32)

    def add(self, server: int, outcome: Outcome, action: np.ndarray | None) -> None:
        """Add the response of a server; without one nothing changes."""
        response, published = outcome.response, self._published[server]
        if response is None:
            return
        published[:-1] = published[1:]
        published[-1] = response.published
        stepped = outcome.kind == "step"
        self._time[server] = self._time[server] + 1 if stepped else 0
        self._action[server] = action if stepped and action is not None else 0

    def observations(self) -> Any:
        """Observations of all servers, made by the simulator's code."""
        return to_numpy(self._stack(self._published, self._time, self._action))


def _counted(count: float, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _checked_urls(urls: Any, server_command: Any, num_envs: Any, server_url: Any) -> int:
    expected = "a list of different URLs, without server_command, server_url and another num_envs"
    alone = server_command is None and server_url is None
    if isinstance(urls, str) or not urls or len({*urls}) != len(urls) or not alone:
        raise ConfigError(f"urls: invalid value {urls!r}; expected {expected}")
    if num_envs is not None and num_envs != len(urls):
        raise ConfigError(f"num_envs: invalid value {num_envs!r}; expected {len(urls)}, the number of URLs")
    return len(urls)


def _info(outcomes: Sequence[Outcome]) -> dict[str, np.ndarray]:
    """Kinds of the rows and counts, each with its mask, as in Gymnasium's vector environments."""
    responded = np.array([outcome.response is not None for outcome in outcomes])
    step = np.array([outcome.kind == "step" for outcome in outcomes])
    start = np.array([outcome.kind == "start" for outcome in outcomes])
    rows = {"valid": responded & step, "dropped": ~responded & step, "restarted": responded & start}
    info = {}
    for name, values in rows.items():
        info[name], info[f"_{name}"] = values, np.ones(len(outcomes), bool)
    for name in ("episode_steps", "projectile_count"):
        counts = [getattr(outcome.response, name, 0) for outcome in outcomes]
        info[name], info[f"_{name}"] = np.array(counts, np.int64), responded.copy()
    return info
