"""Whole trainings: wall time to a mean return on level 2, angle 30, at the original's timing.

Ours is what `python -m jaxdodge.train` does. sbx and Stable-Baselines3 train on our vector environment with
the same arenas, updates per step, batch, widths, discount, learning rate, replay, reward scale and penalty;
sbx also with our layer norm and policy_delay. Their evaluations do not count as their time; ours do.
With several seeds they take turns, seed by seed.
"""

import importlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.env import GAME
from benchmarks.measure import Options, Rows, say, spread

GOAL = 800.0
EPISODES = 128
OURS = "jaxdodge"
PEERS = ("sbx", "stable_baselines3")
# Environment steps between evaluations.
EVALUATED = 51_200


def bench_train(options: Options) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    goal = -1e9 if options.tiny else GOAL
    peers = [name for name in PEERS if name in options.peers]
    rows: Rows = []
    for seed in range(options.train_seeds):
        rows.append(_ours(goal, seed, options))
        rows += [_peer(name, goal, seed, options) for name in peers]
    return rows, {f"train: time of {name} over ours": ratio_over_seeds(rows, name) for name in peers}


def ratio_over_seeds(rows: Rows, peer: str) -> dict[str, Any]:
    """Time of the peer's nth training over that of our nth; one training alone has no spread.

    Where ours did not get to its goal a ratio is 0; where the peer did not, all are lower bounds.
    """
    ours, theirs = ([row for row in rows if row["name"] == name] for name in (OURS, peer))
    pairs = list(zip(ours, theirs, strict=True))

    def ratios(seconds: str) -> list[float]:
        return [other[seconds] / mine[seconds] if mine["reached"] else 0.0 for mine, other in pairs]

    found = spread(ratios("seconds"))
    return {
        **(found if len(pairs) > 1 else {"median": found["median"]}),
        "by_processor": statistics.median(ratios("processor_seconds")),
        "at_least": not all(row["reached"] for row in theirs),
    }


class _Clock:
    """Wall and processor seconds of what is counted."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.go_on()

    def go_on(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def pause(self) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]

    def row(self, name: str, seed: int, goal: float, curve: list[tuple[float, int, float]]) -> dict[str, Any]:
        """curve: seconds, environment steps and mean return of every evaluation."""
        best = max((mean for _, _, mean in curve), default=None)
        return {
            "part": "train",
            "name": name,
            "seed": seed,
            "goal": goal,
            "reached": best is not None and best >= goal,
            "seconds": self.wall,
            "processor_seconds": self.processor,
            "timesteps": curve[-1][1] if curve else 0,
            "best_return": best,
            "curve": curve,
        }


def _configuration(tiny: bool, seed: int) -> tuple[dict[str, Any], Any]:
    from jaxdodge.agents.train_config import TrainConfig

    fields: dict[str, Any] = {"eval_freq": EVALUATED, "n_eval_episodes": EPISODES, "save_freq": 10**9}
    fields["seed"] = seed
    if not tiny:
        return GAME, TrainConfig(**fields)
    small: dict[str, Any] = {
        "num_envs": 8,
        "net_arch": (8, 8),
        "learning_starts": 64,
        "batch_size": 8,
        "buffer_size": 800,
    }
    fields |= {"eval_freq": 80, "n_eval_episodes": 2}
    return GAME | {"max_episode_steps": 20}, TrainConfig(**fields, **small, total_timesteps=200)


def _ours(goal: float, seed: int, options: Options) -> dict[str, Any]:
    from jaxdodge.config import GameConfig
    from jaxdodge.runs.folder import Run
    from jaxdodge.runs.loop import Training

    fields, config = _configuration(options.tiny, seed)
    game = GameConfig(**fields)
    curve: list[tuple[float, int, float]] = []

    class Evaluations:
        """In place of a progress bar."""

        def __init__(self, *_: Any) -> None:
            pass

        def __enter__(self) -> "Evaluations":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def say(self, line: str) -> None:
            pass

        def advance(self, steps: int, rates: dict[str, float]) -> None:
            pass

        def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
            point = training.seconds, int(evaluations[0]["timesteps"]), evaluations[0]["mean"]
            curve.append(point)
            _say(OURS, *point)

    def stop() -> str | None:
        if curve and curve[-1][2] >= goal:
            return "goal"
        return "limit" if training.seconds > options.train_limit else None

    clock = _Clock()
    training = Training(game, config)
    compile_seconds = training.seconds
    training.start()
    with tempfile.TemporaryDirectory() as folder:
        training.learn(Run.create(Path(folder), "bench", game, config), stop, Evaluations)
        clock.pause()
    return clock.row(OURS, seed, goal, curve) | {"compile_seconds": compile_seconds}


def _say(name: str, seconds: float, timesteps: int, mean: float) -> None:
    say(f"train: {name}, {seconds:.0f} s, {timesteps:,} steps: return {mean:.1f}")


def _peer(name: str, goal: float, seed: int, options: Options) -> dict[str, Any]:
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks.vec_env import Arenas
    from jaxdodge.config import GameConfig
    from jaxdodge.sim.gym import DodgeVectorEnv

    fields, config = _configuration(options.tiny, seed)
    penalty = GameConfig(**fields).collision_penalty * config.collision_penalty_factor
    clock = _Clock()
    arenas = Arenas(
        DodgeVectorEnv(config.num_envs, **fields, collision_penalty=penalty), config.reward_scale, config.seed
    )
    evaluated = DodgeVectorEnv(config.n_eval_episodes, **fields)
    curve: list[tuple[float, int, float]] = []

    class Evaluations(BaseCallback):
        """Evaluates every `eval_freq` steps, and stops at the goal or the limit."""

        def _on_step(self) -> bool:
            before = self.num_timesteps - config.num_envs
            if before // config.eval_freq == self.num_timesteps // config.eval_freq:
                return True
            clock.pause()
            point = clock.wall, self.num_timesteps, mean_return(self.model, evaluated)
            curve.append(point)
            _say(name, *point)
            clock.go_on()
            return point[2] < goal and clock.wall < options.train_limit

    own = {"layer_norm": True} if name == "sbx" else {}
    delay = {"policy_delay": config.policy_delay} if name == "sbx" else {}
    model = importlib.import_module(name).SAC(
        "MlpPolicy",
        arenas,
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=config.gamma,
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        ent_coef=config.ent_coef,
        target_entropy=config.target_entropy * arenas.action_space.shape[0],
        policy_kwargs={"net_arch": list(config.net_arch), **own},
        seed=config.seed,
        **delay,
    )
    model.learn(config.total_timesteps, callback=Evaluations())
    clock.pause()
    return clock.row(name, seed, goal, curve)


def mean_return(model: Any, env: Any) -> float:
    """Of the first episode of every arena, without noise."""
    observations, _ = env.reset(seed=1)
    returns, playing = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while playing.any():
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        returns += np.where(playing, rewards, 0)
        playing &= ~(terminated | truncated)
    return float(returns.mean())
