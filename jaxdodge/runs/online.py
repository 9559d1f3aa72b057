"""A training on servers: the loop of `Training`, with transitions that a collector plays."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.replay import Row
from jaxdodge.agents.server_trainer import ServerTrainer
from jaxdodge.agents.train_config import updates_after
from jaxdodge.agents.trainer import EpochMetrics
from jaxdodge.bevy.collector import Collector, PlayedEpisode
from jaxdodge.bevy.play import trained_pause
from jaxdodge.bevy.transitions import Transition
from jaxdodge.config import GameConfig
from jaxdodge.runs.adopt import adopted
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.folder import Run
from jaxdodge.runs.logs import Log
from jaxdodge.runs.loop import Training
from jaxdodge.runs.memory import check_fits, estimate
from jaxdodge.runs.progress import TrainingProgress
from jaxdodge.runs.servers import Servers
from jaxdodge.sim.spaces import observation_space

# Rows that one call writes, and about as many updates as one call computes: as much as may pass
# until the collector acts with new weights.
ROWS_OF_A_CALL = 256
UPDATES_OF_A_CALL = 16
EPOCH_SECONDS = 1.0
# After so many without a transition, a line says so.
QUIET_SECONDS = 10.0


class OnlineTraining(Training):
    """The training of a run on servers. Collecting goes on while this learns, evaluates and saves.

    An epoch is about a second: it stores the transitions that have come, and computes the updates
    that are due for them. If those take longer than the servers, the learner lags behind, and
    catches up at the end.

    Args:
        game, config: of the run.
        servers: to play on.
    """

    def __init__(self, game: GameConfig, config: Any, servers: Servers):
        self._servers, self._adopted = servers, False
        super().__init__(game, config)
        self.total = config.total_timesteps

    def _compile(self, devices: int) -> None:
        self._online = ServerTrainer(self.game, self.config)
        self.trainer, self._shardings = self._online.trainer, None
        self.shapes = self._online.shapes
        self.memory = estimate(self.shapes)
        check_fits(self.memory, self.game, self.config)

    def start(self) -> None:
        """Set the state before the first transition."""
        self.state = self._online.init(self._key_state)
        self.best_policies = self._ema_policies()

    def adopt(self, source: Run, keep_replay: bool) -> None:
        """After `start`: begin with what another run has learned, see `adopted`."""
        self.state = adopted(self.state, source, keep_replay)
        self.best_policies = self._ema_policies()
        self._adopted = True

    def learn(
        self,
        run: Run,
        interrupted: Callable[[], str | None],
        show: Callable[..., Any] = TrainingProgress,
        wandb: str | None = None,
    ) -> str | None:
        """As `Training.learn`.

        Raises:
            FleetError: the servers cannot go on; everything is saved.
        """
        self._generator = np.random.default_rng([self.config.seed, self.timesteps])
        self._rows = np.array(self.state.rows)
        # The servers begin new episodes, also after a resume.
        self._goes_on = np.zeros(self.config.num_envs, bool)
        if self._adopted:
            # A resume must not need the other run.
            Checkpoints(run.checkpoints).save(0, (self.state, self.best_policies), self._record(), math.nan)
        self._updates = self._updates_before = int(self.state.learner.updates - self.state.updates_before)
        self._warm_up()
        fleet = self._servers.fleet(self.game, run.folder / "logs")
        pause = self._servers.think_seconds
        if pause is None:
            pause = trained_pause(self.game, self._servers.first_url)
        self._collector = Collector(fleet, self._act, pause, self.total - self.timesteps)

        self._quiet = time.monotonic() + QUIET_SECONDS

        def stopped() -> str | None:
            failed = self._collector.failed
            return interrupted() or (None if failed is None else str(failed) or repr(failed))

        try:
            reason = super().learn(run, stopped, show, wandb)
        finally:
            self._collector.end()
        for line in self._collector.notices():
            print(line)
        print(f"servers: {self._collector.summary()}", flush=True)
        if self._collector.failed is not None:
            raise self._collector.failed
        return reason

    def _act(self, observations: Any, evaluated: np.ndarray) -> np.ndarray:
        """Actions of all servers; uniform until learning starts. The collector calls it."""
        weights = self._weights
        if weights is None:
            shape = len(evaluated), self.trainer.env.num_actions
            return self._generator.uniform(-1, 1, shape).astype(np.float32)
        words = self._generator.integers(2**32, size=2, dtype=np.uint32)
        return np.array(self._online.act(*weights, words, observations, evaluated))

    def _publish_weights(self) -> None:
        """Let the collector act with the present policies; copies, because the state is donated."""
        policies = self.state.learner.policy, self.state.learner.ema_policy
        learned = self._updates or int(self.state.updates_before)
        self._weights = jax.tree.map(jnp.copy, policies) if learned else None

    def _rounds_due(self) -> int:
        """Rounds of `gradient_steps` updates that the transitions so far call for."""
        due = updates_after(self.config, self.game.frame_stack, self.timesteps)
        return (due - self._updates) // self.config.gradient_steps

    def _run_epoch(self) -> Any:
        """Store and learn for about a second."""
        ends, played, learned = time.monotonic() + EPOCH_SECONDS, [], []
        self._updates_before = self._updates
        while time.monotonic() < ends and self.timesteps < self.total and not self._collector.failed:
            due = self._rounds_due()
            # The last transition is taken once the updates are done that are due before it.
            most = min(ROWS_OF_A_CALL // 2, self.total - self.timesteps - (due > 0))
            taken = self._collector.take(most, 0.0 if due else 0.1)
            for line in self._collector.notices():
                self._say(line)
            if taken:
                self._store(taken)
                played += taken
            if due:
                learned.append(self._learn(due))
        while self.timesteps == self.total and self._rounds_due():
            learned.append(self._learn(self._rounds_due()))
        collected = {name: _mean(played, name) for name in ("reward", "terminated")} if played else {}
        means = {name: _mean(learned, name) for name in learned[0]} if learned else {}
        if played:
            self._quiet = time.monotonic() + QUIET_SECONDS
        elif time.monotonic() > self._quiet and not self._collector.failed:
            self._quiet = time.monotonic() + QUIET_SECONDS
            self._say(
                f"waiting for the servers (their output is in {self.run.folder}/logs): "
                f"{self._collector.summary()}"
            )
        if played or learned:
            self._check_divergence(collected | means)
        return EpochMetrics(*jax.tree.map(np.atleast_2d, (collected, means, bool(learned))))

    def _store(self, transitions: list[Transition]) -> None:
        """Write transitions into the replay, and count them."""
        length = self.config.buffer_size // self.config.num_envs
        # By their places in the ring: a later row replaces an earlier one.
        rows: dict[tuple[int, int], tuple[Any, ...]] = {}
        for each in transitions:
            server = each.server
            # It replaces the end of the episode that it continues.
            number = int(self._rows[server]) - bool(self._goes_on[server])
            row = number, each.observation, each.action, each.reward, each.terminated, False
            end = number + 1, each.next_observation, 0 * each.action, 0.0, False, True
            rows[server, number % length], rows[server, (number + 1) % length] = row, end
            self._rows[server] = number + 2
            self._goes_on[server] = not (each.terminated or each.truncated)
        self._write([(server, *row) for (server, _), row in rows.items()])
        self.timesteps += len(transitions)

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        """Write rows, each of (server, number, observation, action, reward, terminated, ended)."""
        observed = observation_space(self.game).shape
        shapes: Any = (), (), observed, (self.trainer.env.num_actions,), (), (), ()
        dtypes = np.int32, np.int32, np.float32, np.float32, np.float32, bool, bool
        columns: Any = [
            np.zeros((ROWS_OF_A_CALL, *shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        # A server that does not exist, whose rows are not written.
        columns[0][:] = self.config.num_envs
        for index, row in enumerate(rows):
            for column, value in zip(columns, row, strict=True):
                column[index] = value
        server, number, observations, *rest = columns
        counts = self._rows.astype(np.int32)
        self.state = self._online.add(self.state, observations, Row(None, *rest), server, number, counts)

    def _warm_up(self) -> None:
        """Compile what is called while the servers play, by calls that change nothing."""
        learner, servers = self.state.learner, self.config.num_envs
        observed: Any = observation_space(self.game).shape
        observations = np.zeros((servers, *observed), np.float32)
        words, evaluated = np.zeros(2, np.uint32), np.zeros(servers, bool)
        self._online.act(learner.policy, learner.ema_policy, words, observations, evaluated)
        self._simulate(self._ema_policies()[0], self._keys_evaluation[0])
        self._write([])
        self._learn(0)

    def _learn(self, due: int) -> dict[str, float]:
        """Compute some of the rounds of updates that are due; their metrics."""
        state, steps = self.state, self.config.gradient_steps
        rounds = min(due, max(1, UPDATES_OF_A_CALL // steps))
        learner, key, metrics = self._online.learn(
            state.learner, state.replay, state.key, state.rows, np.int32(rounds)
        )
        self.state = state.replace(learner=learner, key=key)
        self._updates += rounds * steps
        self._publish_weights()
        return {name: float(value) for name, value in metrics.items()}

    def _rates(self, metrics: EpochMetrics, seconds: float) -> dict[str, float]:
        """Environment steps and updates per second of an epoch."""
        return {
            "steps_per_second": (self.timesteps - self._before) / seconds,
            "updates_per_second": (self._updates - self._updates_before) / seconds,
        }

    def _evaluate(
        self,
        progress: TrainingProgress,
        logs: list[Log],
        speed: dict[str, float] | None = None,
        means: list[dict[str, float]] | None = None,
    ) -> None:
        """In the simulator, and beside it what the same policy has played on the servers."""
        if speed is None:
            return super()._evaluate(progress, logs)
        episodes = [self._collector.episodes.popleft() for _ in range(len(self._collector.episodes))]
        played = [each for each in episodes if each.evaluated]
        figures = {
            "servers/episodes": float(len(played)),
            "servers/sampled_mean": _mean_of([each.total_reward for each in episodes if not each.evaluated]),
            "servers/mean": _mean_of([each.total_reward for each in played]),
            "servers/survival": _mean_of([each.survived for each in played]),
            "servers/late_seconds_p99": self._collector.late_seconds(),
            "updates_behind": float(self._rounds_due() * self.config.gradient_steps),
        }
        super()._evaluate(progress, logs, speed | figures, means)
        explored = [each for each in episodes if not each.evaluated]
        self._say(
            f"  on the servers: {_played(played)}; exploring: {_played(explored)}; "
            f"{figures['updates_behind']:,.0f} updates behind; "
            f"steps are {1e3 * figures['servers/late_seconds_p99']:.1f} ms late (p99)"
        )


def _played(episodes: list[PlayedEpisode]) -> str:
    if not episodes:
        return "no episode ended"
    survival = _mean_of([each.survived for each in episodes])
    return (
        f"return {_mean_of([each.total_reward for each in episodes]):.1f}, survival {survival:.1%} "
        f"in {len(episodes)} episodes"
    )


def _mean(rows: list[Any], name: str) -> np.ndarray:
    """The mean of a quantity as the metric of an epoch, (seeds, steps)."""
    values = [row[name] if isinstance(row, dict) else getattr(row, name) for row in rows]
    return np.array([[_mean_of(values)]])


def _mean_of(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan
