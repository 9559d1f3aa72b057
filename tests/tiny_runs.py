"""A training small enough for tests, and what it leaves; one configuration,
so that it is compiled once.
"""

import json
from pathlib import Path

TINY = {
    "num_envs": 64,
    "net_arch": [8],
    "buffer_size": 2560,
    "batch_size": 16,
    "gradient_steps": 2,
    "learning_starts": 8,
    "policy_averaging": 0.1,
    "n_eval_episodes": 8,
    "max_episode_steps": 80,
    "frames_per_step": 1,
    "fps": 10,
    "total_timesteps": 4096,
    "eval_freq": 512,
    "save_freq": 1024,
}


def only_run(name: str = "tiny") -> Path:
    (run,) = Path("results", name).iterdir()
    return run


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())
