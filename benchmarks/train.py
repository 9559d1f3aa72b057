"""Whole trainings: wall time until a mean return on level 2, angle 30, at the original's timing.

Ours is that of `jaxdodge train`. sbx and Stable-Baselines3 train on our vector
environment with the same num_envs, updates per step, batch size, widths, discount, learning rate,
replay size, reward scale and penalty; sbx also with our layer norm and policy_delay. Our
evaluations count as training time, theirs do not. With several seeds the agents take turns, seed by
seed.
"""

import importlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.env import GAME
from benchmarks.measure import Rows, Settings, say, spread

GOAL = 800.0
EPISODES = 128
OURS = "jaxdodge"
PEERS = ("sbx", "stable_baselines3")
# Environment steps between evaluations.
EVALUATED = 51_200


def bench_train(settings: Settings) -> tuple[Rows, dict[str, Any]]:
    """Rows, and ratios to the peers."""
    goal = -1e9 if settings.tiny else GOAL
    peers = [name for name in PEERS if name in settings.peers]
    rows: Rows = []
    for seed in range(settings.train_seeds):
        rows.append(_ours(goal, seed, settings))
        rows += [_peer(name, goal, seed, settings) for name in peers]
    return rows, {f"train: time of {name} over ours": ratio_over_seeds(rows, name) for name in peers}


def ratio_over_seeds(rows: Rows, peer: str) -> dict[str, Any]:
    """Ratio of the peer's training time to ours, seed by seed; a single seed has no spread.

    A ratio is 0 if ours did not reach the goal, and a lower bound if the peer did not.
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
    """A stopwatch of wall and CPU time."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.go_on()

    def go_on(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def pause(self) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def row(self, name: str, seed: int, goal: float, curve: list[tuple[float, int, float]]) -> dict[str, Any]:
        """The row of a training; `curve`: seconds, steps and mean return of evaluations."""
        best = max((mean for _, _, mean in curve), default=None)
        return {
            "part": "train",
            "name": name,
            "seed": seed,
            "goal": goal,
            "reached": best is not None and best >= goal,
            "seconds": self.wall,
            "processor_seconds": self.cpu,
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


def _ours(goal: float, seed: int, settings: Settings) -> dict[str, Any]:
    from jaxdodge.config import GameConfig
    from jaxdodge.runs.folder import Run
    from jaxdodge.runs.loop import Training

    fields, config = _configuration(settings.tiny, seed)
    game = GameConfig(**fields)
    curve: list[tuple[float, int, float]] = []

    class Evaluations:
        """In place of the progress bar: records the evaluations."""

        def __init__(self, *_: Any) -> None:
            pass

        def __enter__(self) -> "Evaluations":
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def say(self, line: str) -> None:
            pass

        def advance(self, steps: int, rates: dict[str, float], left: float | None) -> None:
            pass

        def evaluation(self, evaluations: list[dict[str, float]], rates: dict[str, float]) -> None:
            point = training.seconds, int(evaluations[0]["timesteps"]), evaluations[0]["mean"]
            curve.append(point)
            _say(OURS, *point)

    def stop() -> str | None:
        if curve and curve[-1][2] >= goal:
            return "goal"
        return "limit" if training.seconds > settings.train_limit else None

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


def _peer(name: str, goal: float, seed: int, settings: Settings) -> dict[str, Any]:
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks.sb3_vec_env import ScaledRewards
    from jaxdodge.config import GameConfig
    from jaxdodge.sb3 import make_vec_env
    from jaxdodge.sim.gym import DodgeVectorEnv

    fields, config = _configuration(settings.tiny, seed)
    penalty = GameConfig(**fields).collision_penalty * config.collision_penalty_factor
    clock = _Clock()
    envs = ScaledRewards(
        make_vec_env(config.num_envs, config.seed, **fields, collision_penalty=penalty), config.reward_scale
    )
    evaluated = DodgeVectorEnv(config.n_eval_episodes, **fields)
    curve: list[tuple[float, int, float]] = []

    class Evaluations(BaseCallback):
        """Evaluates every `eval_freq` steps and stops at the goal or the timeout."""

        def _on_step(self) -> bool:
            before = self.num_timesteps - config.num_envs
            if before // config.eval_freq == self.num_timesteps // config.eval_freq:
                return True
            clock.pause()
            point = clock.wall, self.num_timesteps, mean_return(self.model, evaluated)
            curve.append(point)
            _say(name, *point)
            clock.go_on()
            return point[2] < goal and clock.wall < settings.train_limit

    own = {"layer_norm": True} if name == "sbx" else {}
    delay = {"policy_delay": config.policy_delay} if name == "sbx" else {}
    model = importlib.import_module(name).SAC(
        "MlpPolicy",
        envs,
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=config.gamma,
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        ent_coef=config.ent_coef,
        target_entropy=config.target_entropy * envs.action_space.shape[0],
        policy_kwargs={"net_arch": list(config.net_arch), **own},
        seed=config.seed,
        **delay,
    )
    model.learn(config.total_timesteps, callback=Evaluations())
    clock.pause()
    return clock.row(name, seed, goal, curve)


def mean_return(model: Any, env: Any) -> float:
    """Mean return of the first episode of each environment, with deterministic actions."""
    observations, _ = env.reset(seed=1)
    returns, playing = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while playing.any():
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, terminated, truncated, _ = env.step(actions)
        returns += np.where(playing, rewards, 0)
        playing &= ~(terminated | truncated)
    return float(returns.mean())
