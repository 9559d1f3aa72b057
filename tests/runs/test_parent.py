"""What a run takes over from its parent: the game, and networks that may have fewer inputs."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.program import make_trainer
from jaxdodge.config import GameConfig
from jaxdodge.fields import ConfigError
from jaxdodge.runs.adopt import with_networks
from jaxdodge.runs.folder import Run, configuration, split
from jaxdodge.runs.parent import NETWORK_OPTIONS, continued_game
from jaxdodge.runs.servers import Servers
from jaxdodge.runs.start import read_start

NO_LAG, LAG = GameConfig(level=2, frames_per_step=1), GameConfig(level=2, frames_per_step=7, response_frame=0)
BLIND = dataclasses.replace(LAG, observe_previous_action=False)


@pytest.mark.parametrize(
    ("trained", "setting", "shown"),
    [
        (NO_LAG, {"frames_per_step": 7}, False),
        (NO_LAG, {"frames_per_step": 7, "response_frame": 0}, True),
        (NO_LAG, {"response_frame": 0}, True),
        (NO_LAG, {"response_frame": 0, "observe_previous_action": False}, False),
        (NO_LAG, {"observe_previous_action": True}, True),
        (LAG, {"frames_per_step": 1, "response_frame": 1}, True),
        (BLIND, {"fps": 30}, False),
        (BLIND, {"observe_previous_action": True}, True),
    ],
)
def test_where_a_lag_comes_the_previous_action_is_observed(trained, setting, shown):
    assert continued_game(trained, setting).observe_previous_action is shown


@pytest.mark.parametrize("setting", [{"frame_stack": 2}, {"observe_previous_action": False}])
def test_observations_that_lack_something_are_refused(setting):
    with pytest.raises(ConfigError, match="which the policy was trained with"):
        continued_game(LAG, setting)


OTHER_NETWORKS = {
    "net_arch": [32],
    "encoder": "nature",
    "squint": 4,
    "random_shift": False,
    "critic_observation": "state",
    "normalize_observations": True,
    "seeds": 2,
}


@pytest.mark.parametrize("name", NETWORK_OPTIONS)
def test_networks_of_another_shape_are_refused_by_their_option(tmp_path, name):
    """Before anything is compiled: the run has no checkpoint."""
    base = {"level": 2, "action_space_type": "basic_3d", "net_arch": [16]}
    if name in ("encoder", "squint", "random_shift", "critic_observation"):
        base |= {"observation_mode": "topdown", "squint": 2}
    run = Run.create(tmp_path, "name", *split(base))
    value, trained = OTHER_NETWORKS[name], configuration(*run.config())[name]
    message = f"{name}: invalid value {value!r}; expected {trained!r}, as {run.folder} has"
    for servers in (None, Servers(urls=("http://a:1",))):
        with pytest.raises(ConfigError, match=re.escape(message)):
            read_start(tmp_path, None, None, None, {name: value}, servers, run.folder)


@pytest.mark.parametrize("mode", ["standard", "topdown"])
def test_shifts_of_images_that_are_not_averaged_may_change(tmp_path, mode):
    """The encoder's parameters are the same for images in patches and for whole ones."""
    values = {"action_space_type": "basic_3d", "observation_mode": mode, "random_shift": True}
    run = Run.create(tmp_path, "name", *split(values))
    run.checkpoints.joinpath("1024").mkdir(parents=True)
    start = read_start(tmp_path, None, None, None, {"random_shift": False}, source=run.folder)
    assert not start.config.random_shift


def learner_of(**changes):
    """A trainer, and a learner with random parameters."""
    base = {"level": 2, "action_space_type": "basic_3d", "net_arch": [8, 8], "num_envs": 2}
    trainer = make_trainer(*split({**base, **changes}))
    obs = trainer.observers.actor.features(
        trainer.env.reset(jax.random.key(0), trainer.env.default_params)[0]
    )
    learner = trainer.agent.init(jax.random.key(1), obs, obs)
    leaves, structure = jax.tree.flatten(learner)
    draw = np.random.default_rng(2).normal
    return (
        trainer,
        obs,
        structure.unflatten([(leaf + draw(size=leaf.shape)).astype(leaf.dtype) for leaf in leaves]),
    )


def test_networks_that_gain_the_previous_action_do_not_use_it_at_first():
    _, few, saved = learner_of(frames_per_step=1)
    trainer, many, own = learner_of(frames_per_step=1, response_frame=0)
    wider = with_networks(own, saved, Run(Path("run")))
    draw = np.random.default_rng(0).normal
    obs, action, previous = (draw(size=(64, size)).astype(np.float32) for size in (len(few), 3, 3))
    assert len(few) + 3 == len(many)
    both = np.concatenate([obs, previous], axis=-1)
    distribution, critics = trainer.agent.distribution, trainer.agent.networks.critics.apply
    for old, new in (
        (distribution(saved.policy, obs), distribution(wider.policy, both)),
        (critics(saved.critic_params, obs, action), critics(wider.critic_params, both, action)),
    ):
        for one, other in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)
    assert jax.tree.map(jnp.shape, wider) == jax.tree.map(jnp.shape, own)


def test_networks_of_other_sizes_are_refused():
    _, _, saved = learner_of(frames_per_step=1, net_arch=[4, 8])
    _, _, own = learner_of(frames_per_step=1, response_frame=0)
    with pytest.raises(
        ConfigError, match="from: invalid value run; expected a run with networks of the same sizes"
    ):
        with_networks(own, saved, Run(Path("run")))
