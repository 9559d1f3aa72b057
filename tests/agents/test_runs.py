"""Run folders: what is written can be read again, and what is not a run is refused."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.game import make_sac
from jaxdodge.agents.runs import Log, Run, split
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError

GAME = GameConfig(level=2, action_space_type="basic_3d", frames_per_step=7, response_frame=0, fps=58.8)
TRAIN = TrainConfig(seed=5, net_arch=(8, 9), learning_rate=2e-4)


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path, "name", GAME, TRAIN)


def test_the_configuration_comes_back(run):
    assert Run.open(run.folder).config() == (GAME, TRAIN)


def test_a_policy_comes_back_bit_for_bit(run):
    sac = make_sac(GAME, TRAIN)
    weights = jax.tree.map(
        lambda shape: np.random.default_rng(0).normal(size=shape.shape).astype(np.float32), sac.actor_shapes()
    )
    run.save_policy("best", weights)
    jax.tree.map(np.testing.assert_array_equal, run.load_policy("best", sac.actor_shapes()), weights)
    assert [path.name for path in (run.folder / "models").iterdir()] == ["best"]


def test_damaged_and_foreign_policies_are_refused(run):
    sac = make_sac(GAME, TRAIN)
    with pytest.raises(ConfigError, match="no such file"):
        run.load_policy("final", sac.actor_shapes())
    weights = jax.tree.map(lambda shape: np.zeros(shape.shape, np.float32), sac.actor_shapes())
    run.save_policy("final", weights)
    path = run.folder / "models" / "final"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="damaged"):
        run.load_policy("final", sac.actor_shapes())
    run.save_policy("final", weights)
    other = make_sac(GAME, TrainConfig(net_arch=(8, 10)))
    with pytest.raises(ConfigError, match="networks are not those"):
        run.load_policy("final", other.actor_shapes())


def test_a_folder_without_a_configuration_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="not a run folder"):
        Run.open(tmp_path)
    with pytest.raises(ConfigError, match="not a run folder"):
        Run.open(tmp_path / "absent")


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(ConfigError, match="1 MB free; a run needs 50 MB"):
        Run.create(tmp_path, "name", GAME, TRAIN)


def test_logs_and_plot(run):
    log = Log(run)
    for steps in (100, 200):
        log.write({"timesteps": steps, "mean": steps / 2, "std": 1.0}, {"training/value": 0.5})
    log.close()
    lines = (run.folder / "logs" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "timesteps": 200,
        "evaluation/mean": 100.0,
        "evaluation/std": 1.0,
        "training/value": 0.5,
    }
    assert (run.folder / "plots" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(Path(run.folder / "logs").glob("events.*"))


def test_split_knows_both_configurations():
    game, train = split({"gamma": 0.5, "level": 2, "action_space_type": "3d"})
    assert (game.level, game.action_space_type, train.gamma) == (2, "basic_3d", 0.5)
    with pytest.raises(ConfigError, match=r"gama: no such field .*did you mean gamma\?"):
        split({"gama": 0.5})
