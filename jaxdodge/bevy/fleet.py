"""Many servers as one Gymnasium vector environment, which goes on when some of them crash, hang or lie."""

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

from jaxdodge.bevy.worker_pool import Answer, Crew, FleetError, Limits
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError, Number
from jaxdodge.sim.action_checks import checked_actions
from jaxdodge.sim.actions import action_shape
from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.gym import to_numpy
from jaxdodge.sim.spaces import action_space, observation_space, published_space

__all__ = ["Fleet", "FleetError"]

# The server's own limit, which cannot be configured.
LONGEST_EPISODE = 1000
SECONDS = Number(float, 0, 1e6, above_low=True)


class Fleet(VectorEnv):
    """N servers, each in an episode of its own. No server is started or asked before the first `reset`.

    The autoreset mode is NEXT_STEP: the row after one that ends an episode ignores its action and holds the
    first observation of the next episode. A server that fails (dead, stopped, too slow, restarted, or
    answering what it must not) is restarted, or reconnected if it is not ours, while the others go on:

    - The step without an answer is dropped. Its row, and every further row until the server is back, has
      reward 0, is truncated, and repeats the last observation that really came.
    - The row in which the server is back holds the first observation of a new episode, and `restarted`.
    - While every server is away, `step` waits for the first one to be back.

    **Only where `info["valid"]` holds is a row a transition**: from the observation of the row before, with
    this row's action, reward and flags, to this row's observation. `info["dropped"]` marks the row of a
    dropped step: the transition before it is the last of its episode, truncated.
    `jaxdodge.bevy.transitions.Transitions` does all that. `info` also holds `restarted`, and, where a server
    has answered, `episode_steps` and `projectile_count`; every key has its mask (`_valid`, ...).

    Spaces are those of `jaxdodge.sim.gym.DodgeVectorEnv`; rewards are float64 (num_envs,), flags bool
    (num_envs,). Every wait is bounded. Any exception of `reset` or `step` but for refused arguments closes
    the fleet, Ctrl-C too.

    Args:
        game: what the servers are configured to play. `fps`, `frames_per_step` and `response_frame` say how
            they run; no server is told of them.
        urls: of servers that run already, see `jaxdodge.bevy.connect`.
        server_command: instead of `urls`, what starts a server, see `jaxdodge.bevy.launch.ServerProcess`.
        num_envs: how many of them.
        server_url: of a started server, with the placeholders of the command; default: unix://{socket} if
            the command has that, else http://127.0.0.1:{port}.
        deadline: seconds for an answer.
        start_deadline: seconds from a server's start until it is configured.
        max_restarts: restarts of one server within `restart_window` seconds; one more stops the run.
        restart_window: seconds.
        log_folder: keeps the output of started servers as server_0.log, ...; by default it is gone when the
            fleet is closed.

    Raises:
        ConfigError: refused arguments.
        FleetError: by `reset` and `step`, when a server has used up its restarts or refuses the game.
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
        deadline: float = 5.0,
        start_deadline: float = 120.0,
        max_restarts: int = 5,
        restart_window: float = 600.0,
        log_folder: str | Path | None = None,
    ):
        self.game = GameConfig() if game is None else game
        longest = Number(int, 1, LONGEST_EPISODE, note="the server's own limit")
        longest.check("max_episode_steps", self.game.max_episode_steps)
        limits = Limits(
            SECONDS.check("deadline", deadline),
            SECONDS.check("start_deadline", start_deadline),
            Number(int, 0).check("max_restarts", max_restarts),
            SECONDS.check("restart_window", restart_window),
        )
        if urls is not None:
            self.num_envs = _checked_urls(urls, server_command, num_envs, server_url)
        elif server_command is not None:
            self.num_envs = Number(int, 1).check("num_envs", num_envs)
        else:
            raise ConfigError("urls, server_command: one of them is needed")
        env = DodgeEnv(self.game)
        self.single_observation_space = observation_space(self.game)
        self.single_action_space = action_space(self.game)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._history = _History(env, self.num_envs)
        self._was_reset = False
        self._crew = Crew(
            self.game,
            limits,
            self.num_envs,
            urls or [],
            server_command,
            server_url,
            None if log_folder is None else Path(log_folder),
        )
        # Also when the fleet is forgotten, and when Python exits; if Python is killed, a watchdog does it.
        self._end = weakref.finalize(self, self._crew.end)

    @property
    def counters(self) -> dict[str, float]:
        """What has happened so far.

        `requests` (steps and resets), `dropped_transitions`, `restarts`, what failed by cause
        (`faults_exited`, `faults_deadline`, ...), and `seconds_waited` for answers.
        """
        return {**self._crew.counters, "seconds_waited": self._crew.seconds_waited}

    def summary(self) -> str:
        """The counters in one line."""
        counters = self.counters
        causes = ", ".join(
            f"{name.removeprefix('faults_').replace('_', ' ')} {count}"
            for name, count in counters.items()
            if name.startswith("faults_")
        )
        return (
            f"{counters['requests']} requests, {counters['dropped_transitions']} transitions dropped, "
            f"{counters['restarts']} restarts{f' ({causes})' if causes else ''}, "
            f"{counters['seconds_waited']:.1f} s waited"
        )

    @property
    def process_ids(self) -> dict[int, int]:
        """Of the started servers that run, by number; each is the id of its process group too."""
        return self._crew.process_ids()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """First observations of all servers and info; waits for every server, also for those to be restarted.

        Args:
            seed: of this object's own generator; what a server draws cannot be seeded.
            options: none are accepted.
        """
        if options:
            raise ValueError(f"options: invalid value {options!r}; expected none")
        self._check_open()
        super().reset(seed=seed)
        first = not self._was_reset
        with self._closed_by_errors():
            answers = self._crew.reset()
            for server, answer in enumerate(answers):
                self._history.add(server, answer, None)
        self._was_reset = True
        info = _info(answers)
        if first:
            info["restarted"][:] = False
        return self._history.observations(), info

    def step(self, actions: Any):
        """Observations, rewards, terminations, truncations, info.

        Raises:
            ValueError: refused actions; nothing was sent.
            ResetNeeded: before the first reset.
            FleetError: a server has used up its restarts.
        """
        self._check_open()
        if not self._was_reset:
            raise ResetNeeded("reset() must come before the first step()")
        checked = checked_actions(actions, self.game.action_space_type, self.num_envs)
        with self._closed_by_errors():
            answers = self._crew.step(checked)
            for server, answer in enumerate(answers):
                self._history.add(server, answer, checked[server])
            observations = self._history.observations()
        responses = [answer.response for answer in answers]
        rewards = np.array([0.0 if each is None else each.reward for each in responses], np.float64)
        terminations = np.array([each is not None and each.terminated for each in responses])
        truncations = np.array([each is None or each.truncated for each in responses])
        return observations, rewards, terminations, truncations, _info(answers)

    def close_extras(self, **kwargs: Any) -> None:
        """End all processes and threads; always returns."""
        self._end()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the fleet is closed")

    @contextlib.contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        # What is on its way would else be taken for the answers to the next call.
        try:
            yield
        except BaseException:
            self.close()
            raise


class _History:
    """What the servers have published, as far back as observations are stacked."""

    def __init__(self, env: DodgeEnv, num_envs: int):
        game, published = env.config, published_space(env.config)
        shape = action_shape(game.action_space_type)
        self._stack = jax.jit(jax.vmap(env.stack))
        self._published = np.zeros((num_envs, game.frame_stack, *published.shape), published.dtype)
        self._time = np.zeros(num_envs, np.int32)
        self._action = np.zeros((num_envs, *shape), np.float32 if shape else np.int32)

    def add(self, server: int, answer: Answer, action: np.ndarray | None) -> None:
        """What a server has answered; without an answer everything stays as it was."""
        response, published = answer.response, self._published[server]
        if response is None:
            return
        published[:-1] = published[1:]
        published[-1] = response.published
        stepped = answer.kind == "step"
        self._time[server] = self._time[server] + 1 if stepped else 0
        self._action[server] = action if stepped and action is not None else 0

    def observations(self) -> Any:
        """Of all servers, as the simulator makes them of the same publications."""
        return to_numpy(self._stack(self._published, self._time, self._action))


def _checked_urls(urls: Any, server_command: Any, num_envs: Any, server_url: Any) -> int:
    accepted = (
        "a list of different URLs, one per server, without server_command, server_url and other num_envs"
    )
    alone = server_command is None and server_url is None
    if isinstance(urls, str) or not urls or len({*urls}) != len(urls) or not alone:
        raise ConfigError(f"urls: invalid value {urls!r}; expected {accepted}")
    if num_envs is not None and num_envs != len(urls):
        raise ConfigError(f"num_envs: invalid value {num_envs!r}; expected {len(urls)}, the number of URLs")
    return len(urls)


def _info(answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """What the rows are, and the counts, in Gymnasium's vector format: each with a mask."""
    came = np.array([answer.response is not None for answer in answers])
    step = np.array([answer.kind == "step" for answer in answers])
    start = np.array([answer.kind == "start" for answer in answers])
    rows = {"valid": came & step, "dropped": ~came & step, "restarted": came & start}
    info = {}
    for name, values in rows.items():
        info[name], info[f"_{name}"] = values, np.ones(len(answers), bool)
    for name in ("episode_steps", "projectile_count"):
        counts = [getattr(answer.response, name, 0) for answer in answers]
        info[name], info[f"_{name}"] = np.array(counts, np.int64), came.copy()
    return info
