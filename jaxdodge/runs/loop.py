"""The training loop: epochs, and between them evaluations, logs and checkpoints."""

import contextlib
import math
import operator
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.agents.devices import device_put, gather, shared_interrupt
from jaxdodge.agents.program import shared_program
from jaxdodge.agents.sac_agent import LearnerState, PolicyParams
from jaxdodge.agents.train_config import TrainConfig, updates_after
from jaxdodge.agents.trainer import EpochMetrics
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.episodes import Episodes, evaluate
from jaxdodge.evaluation.statistics import mean_and_interval
from jaxdodge.files import error_line
from jaxdodge.hardware import hardware, return_freed_memory
from jaxdodge.runs.checkpoints import Checkpoints
from jaxdodge.runs.divergence import DivergedError as DivergedError
from jaxdodge.runs.divergence import first_not_finite
from jaxdodge.runs.epochs import TimeLeft, evaluation_is_due, is_due, projection, rates, steps_of_an_epoch
from jaxdodge.runs.folder import NOT_FINITE, Run, check_same_configuration, configuration
from jaxdodge.runs.logs import Log, epoch_means, plot
from jaxdodge.runs.memory import check_fits, estimate
from jaxdodge.runs.progress import TrainingProgress
from jaxdodge.sim.params import game_params

Configured = tuple[GameConfig, TrainConfig] | None

NOT_SAVED = "not saved"
GOES_ON = "; training goes on"


class NotSavedError(Exception):
    """A run has stopped or finished, and not all of it is on disk."""


class Training:
    """The training of one run: `start` or `resume`, then `learn`. Its clock starts here.

    Args:
        game, config: of the run.
        devices: that share the environments, see `Cluster.join`.

    Raises:
        ConfigError: it does not fit into memory.
    """

    def __init__(self, game: GameConfig, config: TrainConfig, devices: int = 1):
        self._began = time.perf_counter()
        self.game, self.config = game, config
        several = config.seeds > 1
        self.params = game_params(game)
        self.steps_per_epoch = steps_of_an_epoch(game, config)
        self.timesteps_per_epoch = self.steps_per_epoch * config.num_envs
        self.total = -(-config.total_timesteps // self.timesteps_per_epoch) * self.timesteps_per_epoch
        seeds = range(config.seed, config.seed + config.seeds)
        keys = jax.vmap(jax.random.split)(jnp.stack([jax.random.key(seed) for seed in seeds]))
        self._key_state, self._keys_evaluation = keys[:, 0] if several else keys[0, 0], keys[:, 1]
        self._compile(devices)
        self.timesteps = self._before = 0
        self.best: list[dict[str, float]] = []
        self.latest: list[dict[str, float]] = []
        self.state: Any = None
        self.best_policies: list[PolicyParams] = []

    def _compile(self, devices: int) -> None:
        program = shared_program(self.game, self.config, self.steps_per_epoch, devices)
        self.trainer, self.shapes, self._shardings = program.trainer, program.shapes, program.shardings()
        # A state that is too large is refused before the epoch is compiled, which takes a while.
        check_fits(estimate(self.shapes, devices=devices), self.game, self.config)
        self._epoch = program.epoch
        self.memory = estimate(self.shapes, self._epoch, devices)
        check_fits(self.memory, self.game, self.config)

    @property
    def seconds(self) -> float:
        """Duration of the run so far, compilation included, without the time between processes."""
        return time.perf_counter() - self._began

    def start(self) -> None:
        """Set the state before the first epoch."""
        self.state = self.trainer.init(self._key_state, self.params)
        self.best_policies = self._ema_policies()

    def take_learner(self, learner: LearnerState) -> None:
        """After `start`: begin with another learner."""
        self.state = self.state.replace(learner=learner)
        if self._shardings is not None:
            self.state = device_put(self.state, self._shardings)
        self.best_policies = self._ema_policies()

    def resume(self, source: Run, timesteps: int | None = None, configured: Configured = None) -> None:
        """Set the state of a checkpoint.

        Args:
            source: run with the checkpoint.
            timesteps: environment steps of the checkpoint; None for the newest usable one.
            configured: the source's configuration, if it is another.

        Raises:
            ConfigError: there is no such checkpoint, or it is of another configuration.
        """
        template = self.shapes, [self.trainer.policy_shapes()] * self.config.seeds
        self.timesteps, saved, record = Checkpoints(source.checkpoints).restore(template, timesteps)
        if "config" in record:
            game, config = configured or (self.game, self.config)
            check_same_configuration(record["config"], game, config, source.folder)
        self.state, self.best_policies = saved
        if self._shardings is not None:
            self.state = device_put(self.state, self._shardings)
        self.best, self.latest = record["best"], record["latest"]
        self._began -= record["seconds"]

    def learn(
        self,
        run: Run,
        interrupted: Callable[[], str | None],
        show: Callable[..., Any] = TrainingProgress,
        wandb: str | None = None,
    ) -> str | None:
        """Train to the end, or until `interrupted` gives a reason to stop, which is returned.

        Args:
            run: folder to write to.
            interrupted: called after each epoch.
            show: replaces `TrainingProgress`, with the same methods.
            wandb: see `Log`.

        Raises:
            DivergedError: a quantity is not finite. No checkpoint and no policy contains it.
            NotSavedError: at the end of the training, not everything could be written.
        """
        interrupted = shared_interrupt(interrupted)
        self.run, self.seed_runs = run, run.seed_runs(self.config)
        self.checkpoints = Checkpoints(run.checkpoints)
        logs = [Log(seed_run, self.timesteps, wandb) for seed_run in self.seed_runs]
        self._unwritten, stopped = False, None
        # The main thread stays free to hear signals while an epoch runs.
        background = ThreadPoolExecutor(1)
        learning, projected = False, False
        self._time_left = TimeLeft(self.config.eval_freq, self.total)
        with background, show(self.total, self.timesteps, lambda: self.seconds) as progress:
            self._say = progress.say
            self._say(str(self.memory))
            if self.best:
                # After a resume the folder may have none, or a later one than the checkpoint.
                self._save_policies("best", self.best_policies)
            try:
                if not self.timesteps:
                    self._evaluate(progress, logs)
                while self.timesteps < self.total and stopped is None:
                    self._unwritten = False
                    began, self._before = self.seconds, self.timesteps
                    metrics = background.submit(self._run_epoch).result()
                    took, steps = self.seconds - began, self.timesteps - self._before
                    speed = self._rates(metrics, took)
                    # The first epoch with updates has some steps without.
                    if learning:
                        self._time_left.epoch(steps, took)
                    left = self._time_left.seconds(self.timesteps)
                    progress.advance(steps, speed, left)
                    if left is not None and not projected:
                        projected = True
                        self._say(projection(self.game, speed["updates_per_second"], left))
                    learning = learning or bool(metrics.learning.any())
                    passed = self._before, self.timesteps, self.total
                    if evaluation_is_due(self.config.eval_freq, *passed):
                        self._evaluate(progress, logs, speed, epoch_means(metrics))
                    stopped = interrupted() if self.timesteps < self.total else None
                    if is_due(self.config.save_freq, *passed) or stopped:
                        self._save_checkpoint("" if stopped or self.timesteps == self.total else GOES_ON)
            except DivergedError as error:
                self._save_summary(str(error))
                raise
            finally:
                for log in logs:
                    with self._report_unwritten(log.path, ""):
                        log.close()
            if self.best:
                # Again, in case it could not be written when it was found.
                self._save_policies("best", self.best_policies, "")
            self._save_policies("final", self._ema_policies(), "")
            self._save_summary(stopped or (NOT_SAVED if self._unwritten else None))
        if self._unwritten:
            raise NotSavedError(f"{NOT_SAVED}; last checkpoint: {self._last_checkpoint()}")
        return stopped

    def _run_epoch(self) -> EpochMetrics:
        """Advance the state by one epoch; metrics with leading axes (seeds, steps)."""
        first_step = jnp.int32(self.trainer.equivalent_step(self.timesteps // self.config.num_envs))
        self.state, metrics = self._epoch(self.state, self.params, first_step)
        metrics = jax.tree.map(np.atleast_2d, metrics)
        self._check_divergence(metrics.collected | metrics.learned)
        self.timesteps += self.timesteps_per_epoch
        return metrics

    def _rates(self, metrics: EpochMetrics, seconds: float) -> dict[str, float]:
        return rates(self.config, metrics, seconds)

    @contextlib.contextmanager
    def _report_unwritten(self, path: Path, then: str = GOES_ON) -> Iterator[None]:
        """Report what cannot be written, as on a full disk, in one line instead of raising."""
        try:
            yield
        except OSError as error:
            self._unwritten = True
            self._say(f"{path}: not written ({error_line(error)}){then}")

    def _check_divergence(self, metrics: dict[str, np.ndarray]) -> None:
        """Raise DivergedError if a metric of the epoch or the learner after it is not finite."""
        wrong = first_not_finite(metrics, self.state.learner)
        if wrong:
            step, name, seed = wrong
            raise DivergedError(
                f"{name} {NOT_FINITE} from environment step "
                f"{self.timesteps + (step + 1) * self.config.num_envs} on"
                + (f" (seed {self.config.seed + seed})" if self.config.seeds > 1 else "")
                + f"; last good checkpoint: {self._last_checkpoint()}"
            )

    def _last_checkpoint(self) -> Path | str:
        saved = self.checkpoints.steps()
        return self.run.checkpoints / f"{saved[-1]:012d}" if saved else "none was saved"

    def _ema_policies(self) -> list[PolicyParams]:
        """The EMA policy of each seed, copied, because the state is donated."""
        policy = jax.tree.map(np.array, self.state.learner.ema_policy)
        if self.config.seeds == 1:
            return [policy]
        return [jax.tree.map(operator.itemgetter(seed), policy) for seed in range(self.config.seeds)]

    def _save_policies(self, name: str, policies: list[PolicyParams], then: str = GOES_ON) -> None:
        for seed_run, policy in zip(self.seed_runs, policies, strict=True):
            with self._report_unwritten(seed_run.folder / "models" / name, then):
                seed_run.save_policy(name, policy)

    def _evaluate(
        self,
        progress: TrainingProgress,
        logs: list[Log],
        speed: dict[str, float] | None = None,
        means: list[dict[str, float]] | None = None,
    ) -> None:
        """Evaluate the policies, log the results, and save the best policies so far.

        Before the first epoch it has no speed and no means of metrics.
        """
        began, self.latest, policies = self.seconds, [], self._ema_policies()
        for key, policy in zip(self._keys_evaluation, policies, strict=True):
            key = jax.random.fold_in(key, self.timesteps // self.timesteps_per_epoch % 2**32)
            episodes = self._simulate(policy, key)
            self.latest.append({"timesteps": self.timesteps, **episodes.summary()})
        self._time_left.evaluation(self.seconds - began)
        speed, first = speed or {}, not self.best
        progress.evaluation(self.latest, speed)
        for seed, latest in enumerate(self.latest):
            with self._report_unwritten(logs[seed].path):
                figures = (means[seed] if means else {}) | speed | {"seconds": self.seconds}
                logs[seed].write(latest, figures)
            # NaN is never better, and never stays the best.
            best = math.nan if first else self.best[seed]["mean"]
            if math.isnan(best) or latest["mean"] > best:
                self.best[seed : seed + 1] = [latest]
                self.best_policies[seed] = policies[seed]
                with self._report_unwritten(self.seed_runs[seed].folder / "models" / "best"):
                    self.seed_runs[seed].save_policy("best", policies[seed])

    def _save_checkpoint(self, then: str) -> None:
        """Save a checkpoint; `then` is appended to the line that reports a failure."""
        record = self._record()
        score = float(np.mean([one["mean"] for one in self.latest])) if self.latest else math.nan
        state = gather(self.state, self.trainer.layout) if self.trainer.layout else self.state
        if jax.process_index():
            return
        return_freed_memory()
        try:
            self.checkpoints.save(self.timesteps, (state, self.best_policies), record, score)
        except OSError as error:
            self._unwritten = True
            self._say(f"{error}{then}")

    def _simulate(self, policy: PolicyParams, key: jax.Array) -> Episodes:
        """The episodes of an evaluation."""
        env, count = self.trainer.env, self.config.n_eval_episodes
        return evaluate(env, self.trainer.policy, policy, self.params, key, count)

    def _record(self) -> dict[str, Any]:
        """What a checkpoint holds beside the state."""
        record = {"best": self.best, "latest": self.latest, "seconds": self.seconds}
        return record | {"config": configuration(self.game, self.config)}

    def _save_summary(self, stopped: str | None) -> None:
        """Write the summaries of the run and its seeds; `stopped`: why it ended early, if so."""
        common = {
            "hardware": hardware(),
            "wall_seconds": self.seconds,
            "timesteps": self.timesteps,
            "stopped": stopped,
        }
        updates = updates_after(self.config, self.trainer.env.config.frame_stack, self.timesteps)
        for seed, seed_run in enumerate(self.seed_runs):
            own = {
                "updates": updates,
                "best_evaluation": self.best[seed] if self.best else None,
                "final_evaluation": self.latest[seed] if self.latest else None,
            }
            with self._report_unwritten(seed_run.folder / "summary.json", ""):
                seed_run.save_summary(common | own)
        if self.config.seeds > 1:
            plot(self.seed_runs, self.run)
            finals = [latest["mean"] for latest in self.latest]
            over_seeds = {"means": finals, **mean_and_interval(finals)} if finals else None
            common |= {"updates": updates * self.config.seeds, "final_evaluation": over_seeds}
            with self._report_unwritten(self.run.folder / "summary.json", ""):
                self.run.save_summary(common)
