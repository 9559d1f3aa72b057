"""Run folders: what is written can be read again, and what is not a run is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from jaxdodge.agents.program import make_trainer
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.folder import (
    Run,
    changed_game,
    check_results_folder,
    check_same_configuration,
    configuration,
    split,
)

GAME = GameConfig(level=2, action_space_type="basic_3d", frames_per_step=7, response_frame=0, fps=58.8)
TRAIN = TrainConfig(seed=5, net_arch=(8, 9), learning_rate=2e-4, ent_coef="auto_0.1", target_entropy=-2)


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path, "name", GAME, TRAIN)


def random_policy(shapes):
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), shapes)


def test_the_configuration_comes_back(run):
    assert Run.open(run.folder).config() == (GAME, TRAIN)


def test_of_several_seeds_each_has_a_run_of_its_own(tmp_path):
    config = dataclasses.replace(TRAIN, seeds=3)
    run = Run.create(tmp_path, "name", GAME, config)
    assert run.config() == (GAME, config)
    assert [part.folder.name for part in run.seed_runs(config)] == ["seed_0", "seed_1", "seed_2"]
    for index, part in enumerate(run.seed_runs(config)):
        assert Run.open(part.folder).config() == (GAME, dataclasses.replace(TRAIN, seed=5 + index))


@pytest.mark.parametrize("normalized", [False, True])
def test_a_policy_comes_back_bit_for_bit(run, normalized):
    shapes = make_trainer(GAME, dataclasses.replace(TRAIN, normalize_observations=normalized)).policy_shapes()
    policy = random_policy(shapes)
    run.save_policy("best", policy)
    jax.tree.map(np.testing.assert_array_equal, run.load_policy("best", shapes), policy)
    assert [path.name for path in (run.folder / "models").iterdir()] == ["best"]


def test_damaged_and_foreign_policies_are_refused(run):
    shapes = make_trainer(GAME, TRAIN).policy_shapes()
    with pytest.raises(ConfigError, match="no such file"):
        run.load_policy("final", shapes)
    run.save_policy("final", random_policy(shapes))
    path = run.folder / "models" / "final"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="damaged"):
        run.load_policy("final", shapes)
    run.save_policy("final", random_policy(shapes))
    other = make_trainer(GAME, TrainConfig(net_arch=(8, 10))).policy_shapes()
    with pytest.raises(ConfigError, match="networks are not those"):
        run.load_policy("final", other)


def test_a_folder_without_a_configuration_is_no_run(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="not a run folder"):
            Run.open(folder)


def test_a_run_on_images_of_version_0_1_is_refused(tmp_path):
    """Its encoders saw the background of an image; the weights alone do not tell."""
    (tmp_path / "config.yaml").write_text("observation_mode: topdown\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: an image run of version 0\.1; expected"):
        Run(tmp_path).config()
    (tmp_path / "config.yaml").write_text("observation_mode: topdown\nsquint: 1\n")
    assert Run(tmp_path).config()[0].observation_mode == "topdown"


def test_the_newest_unfinished_run_of_the_same_configuration_is_found(tmp_path):
    def newest() -> Run | None:
        return Run.newest(tmp_path, "name", GAME, TRAIN)

    assert newest() is None
    runs = [Run.create(tmp_path, "name", GAME, TRAIN) for _ in range(2)]
    Run.create(tmp_path, "name", dataclasses.replace(GAME, fps=60), TRAIN)
    Run.create(tmp_path, "name", GAME, dataclasses.replace(TRAIN, gamma=0.9))
    Run.create(tmp_path, "other name", GAME, TRAIN)
    (tmp_path / "name" / "99990101_000000").mkdir()
    (tmp_path / "name" / "99990102_000000").mkdir()
    (tmp_path / "name" / "99990102_000000" / "config.yaml").write_text("of_another_version: 1\n")
    found = newest()
    assert found
    assert found.folder == runs[1].folder
    runs[1].save_summary({"stopped": "SIGTERM"})
    assert not runs[1].finished()
    found = newest()
    assert found
    assert found.folder == runs[1].folder
    with runs[1].locked():
        found = newest()
        assert found
        assert found.folder == runs[0].folder
    runs[1].save_summary({"stopped": "actor_loss is not finite from environment step 512 on; ..."})
    assert (runs[1].finished(), runs[1].diverged()) == (False, True)
    found = newest()
    assert found
    assert found.folder == runs[0].folder
    runs[1].save_summary({"stopped": None})
    assert runs[1].finished()
    found = newest()
    assert found
    assert found.folder == runs[0].folder
    runs[0].save_summary({"stopped": None})
    assert newest() is None


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    for refused in (check_results_folder, lambda *place: Run.create(*place, GAME, TRAIN)):
        with pytest.raises(ConfigError, match="1 MB free; a run needs 50 MB"):
            refused(tmp_path, "name")
    assert list(tmp_path.iterdir()) == []


def test_split_knows_both_configurations():
    game, train = split({"gamma": 0.5, "level": 2, "action_space_type": "3d"})
    assert (game.level, game.action_space_type, train.gamma) == (2, "basic_3d", 0.5)
    with pytest.raises(ConfigError, match=r"gama: no such field .*did you mean gamma\?"):
        split({"gama": 0.5})


@pytest.mark.parametrize("frames", [3, 9])
def test_with_other_frames_per_step_a_last_response_frame_stays_the_last_and_another_stays_itself(frames):
    last = dataclasses.replace(GAME, frames_per_step=7, response_frame=7)
    assert changed_game(last, {"frames_per_step": frames}).response_frame == frames
    assert changed_game(last, {"frames_per_step": frames, "response_frame": 2}).response_frame == 2
    assert changed_game(GAME, {"frames_per_step": frames}).response_frame == 0
    assert changed_game(last, {"fps": 30}).response_frame == 7


def test_a_policy_of_other_types_is_refused_when_it_is_loaded(run):
    shapes = make_trainer(GAME, TRAIN).policy_shapes()
    policy = random_policy(shapes)
    actor = jax.tree.map(lambda leaf: leaf.astype(np.float64), policy.actor)
    run.save_policy("best", policy.replace(actor=actor))
    with pytest.raises(ConfigError, match="networks are not those"):
        run.load_policy("best", shapes)


@pytest.mark.parametrize("text", ["[1]", "[" * 20_000, '"text"', "null", "{"])
def test_a_damaged_summary_is_that_of_a_run_that_stopped(run, text):
    (run.folder / "summary.json").write_text(text)
    assert not run.finished()
    assert not run.diverged()


def test_a_configuration_that_was_changed_is_refused_by_its_differences(run):
    saved = json.loads(json.dumps(configuration(GAME, TRAIN)))
    check_same_configuration(saved, GAME, TRAIN, run.folder)
    other = dataclasses.replace(TRAIN, gamma=0.5)
    with pytest.raises(ConfigError, match=r"config.yaml: changed since .* saved: gamma 0.5, not 0.97"):
        check_same_configuration(saved, GAME, other, run.folder)
