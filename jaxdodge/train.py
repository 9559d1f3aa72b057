"""`python -m jaxdodge.train`: train an agent. Without arguments: level 2, angle 30, at the original's timing.

Exit status: 0 finished, 130 stopped by Ctrl-C (what was learned is saved), 2 bad input.
"""

import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import Any

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.options import parse_options
from jaxdodge.agents.runs import Log, Run, split
from jaxdodge.cli import guarded
from jaxdodge.config import GameConfig
from jaxdodge.fields import read_yaml
from jaxdodge.hardware import hardware

# The timing that the original project really trained with: an action every 7 frames, and the answer to one
# shows the arena just before it is applied.
DEFAULTS = {
    "level": 2,
    "spawn_angle_degrees": 30.0,
    "action_space_type": "basic_3d",
    "frames_per_step": 7,
    "response_frame": 0,
}
# Steps of all arenas per jitted call: about a second, so that Ctrl-C and the progress bar respond.
STEPS_PER_EPOCH = 25


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a SAC agent. Results go to RESULTS/<name of the configuration file, or "default">/<time>/.

    Ctrl-C saves what was learned and ends with status 130.
    """

    config: Path | None = None
    """YAML file, a flat mapping of the options below; the command line wins over it."""
    results: Path = Path("results")
    """Folder for the folders of runs."""


class Interrupt:
    """The first Ctrl-C asks for an orderly end; a second one ends at once."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGINT, self._request)

    def _request(self, *_: Any) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("\nCtrl-C: saving and stopping", file=sys.stderr, flush=True)


def train(arguments: list[str]) -> int:
    """Parse, train, and return the exit status."""
    options, given = parse_options(Train, (GameConfig, TrainConfig), "jaxdodge.train", arguments, DEFAULTS)
    from_file = read_yaml(options.config) if options.config else {}
    game, config = split({**DEFAULTS, **from_file, **given})
    run = Run.create(options.results, options.config.stem if options.config else "default", game, config)
    interrupt = Interrupt()
    print(f"run: {run.folder}", flush=True)
    log = Log(run)
    try:
        summary = learn(run, log, game, config, interrupt)
    finally:
        log.close()
    run.save_summary(summary)
    return 130 if interrupt.requested else 0


def learn(run: Run, log: Log, game: GameConfig, config: TrainConfig, interrupt: Interrupt) -> dict[str, Any]:
    """Alternate epochs and evaluations until the budget is spent; returns the run's summary."""
    start = time.perf_counter()
    import jax

    from jaxdodge.agents.evaluation import evaluate
    from jaxdodge.agents.game import arena_params, make_sac
    from jaxdodge.agents.progress import TrainingProgress

    steps_per_epoch = STEPS_PER_EPOCH * config.num_envs
    epochs = -(-config.total_timesteps // steps_per_epoch)
    epochs_per_evaluation = max(1, config.eval_freq // steps_per_epoch)
    best: dict[str, float] = {}
    epoch = 0
    with TrainingProgress(epochs * steps_per_epoch) as progress:
        sac = make_sac(game, config)
        game_params = sac.env.default_params
        key_arenas, key_state, key_evaluations = jax.random.split(jax.random.key(config.seed), 3)
        params = arena_params(key_arenas, game_params, config)
        state = sac.init(key_state, params)
        while True:
            epoch += 1
            epoch_start = time.perf_counter()
            state, metrics = sac.epoch(state, params, STEPS_PER_EPOCH)
            metrics = {f"training/{name}": float(value) for name, value in metrics.items()}
            rate = STEPS_PER_EPOCH / (time.perf_counter() - epoch_start)
            rates = {
                "steps_per_second": rate * config.num_envs,
                "updates_per_second": rate * config.gradient_steps * metrics["training/learning"],
            }
            progress.advance(steps_per_epoch, rates)
            last = epoch == epochs or interrupt.requested
            if epoch % epochs_per_evaluation and not last:
                continue
            weights = state.learner.average_actor
            key = jax.random.fold_in(key_evaluations, epoch)
            episodes = evaluate(sac.env, sac.policy, weights, game_params, key, config.n_eval_episodes)
            latest = {"timesteps": epoch * steps_per_epoch, **episodes.summary()}
            progress.evaluation(latest, rates)
            log.write(latest, metrics | rates)
            if not best or latest["mean"] > best["mean"]:
                best = latest
                run.save_policy("best", weights)
            if last:
                break
    run.save_policy("final", state.learner.average_actor)
    return {
        "hardware": hardware(),
        "wall_seconds": time.perf_counter() - start,
        "timesteps": epoch * steps_per_epoch,
        "updates": int(state.learner.updates),
        "best_evaluation": best,
        "final_evaluation": latest,
        "stopped_early": interrupt.requested,
    }


if __name__ == "__main__":
    sys.exit(guarded(train, sys.argv[1:]))
