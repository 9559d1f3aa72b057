"""SAC on environments whose values are known."""

import dataclasses
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.observations import Observer, Observers
from jaxdodge.agents.sac_agent import LearnerState
from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.agents.trainer import Trainer, TrainingState

GAMMA = 0.5


class Probe:
    """Environments of one number; `params`, int32, says which of them.

    Args:
        rules: (observation, action) -> reward, next observation,
            terminated, truncated; all scalars.
        starts: for each rule two numbers, one of which an episode starts at.
    """

    num_actions = 1
    default_params = jnp.int32(0)
    config = SimpleNamespace(frame_stack=1)

    def __init__(self, rules: list[Callable], starts: list[tuple[float, float]]):
        self.rules = [self._typed(rule) for rule in rules]
        self.starts = jnp.array(starts)

    @staticmethod
    def _typed(rule: Callable) -> Callable:
        def typed(observation, action):
            reward, following, terminated, truncated = rule(observation, action)
            state = jnp.stack([jnp.float32(following), jnp.float32(truncated)])
            return jnp.float32(reward), state, jnp.asarray(terminated)

        return typed

    def reset(self, key, params):
        state = jnp.stack([jax.random.choice(key, self.starts[params]), 0.0])
        return state[:1], state

    def restart(self, key, state, params):
        return self.reset(key, params)

    def step_env(self, key, state, action, params):
        reward, state, terminated = jax.lax.switch(params, self.rules, state[0], action[0])
        return state[:1], state, reward, terminated, {}

    def is_truncated(self, state, params):
        return state[1] > 0

    def observe(self, key, state, action, params):
        return state[:1]

    def stored_frame(self, state, params):
        return state[:1]

    def assemble(self, entries, time, previous_action):
        return entries[-1]


# Rules, where their episodes start, and the values that the critics must find.
PROBES: dict[str, tuple[Callable, tuple[float, float], dict[float, float]]] = {
    "constant reward": (lambda o, a: (1.0, 0.0, True, False), (0.0, 0.0), {0.0: 1.0}),
    "reward that depends on the observation": (
        lambda o, a: (o, 0.0, True, False),
        (-1.0, 1.0),
        {-1.0: -1.0, 1.0: 1.0},
    ),
    "reward one step later": (
        lambda o, a: (o, 1.0, o == 1, False),
        (0.0, 0.0),
        {0.0: GAMMA, 1.0: 1.0},
    ),
    "reward in every of five steps": (
        lambda o, a: (1.0, o - 0.5, o < -0.9, False),
        (1.0, 1.0),
        {1.0: 1.9375, 0.5: 1.875, 0.0: 1.75, -0.5: 1.5, -1.0: 1.0},
    ),
    "truncation bootstraps": (lambda o, a: (1.0, 0.0, False, True), (0.0, 0.0), {0.0: 1 / (1 - GAMMA)}),
    "termination does not, even where the step limit is reached too": (
        lambda o, a: (1.0, 0.0, True, True),
        (0.0, 0.0),
        {0.0: 1.0},
    ),
    "truncation bootstraps from the true last observation": (
        # From 0 to 1, cut there; the next episode starts at 0 or 1. 1 pays and terminates.
        lambda o, a: (o, 1.0, o == 1, o == 0),
        (0.0, 1.0),
        {0.0: GAMMA, 1.0: 1.0},
    ),
}
# The best action is half the observation.
QUADRATIC = (lambda o, a: (-((a - 0.5 * o) ** 2), 0.0, True, False), (-1.0, 1.0))
NAMES = [*PROBES, "quadratic", "nan", "inf"]
PROBE = Probe(
    [probe[0] for probe in PROBES.values()]
    + [QUADRATIC[0]]
    + [lambda o, a, wrong=wrong: (wrong, 0.0, True, False) for wrong in (jnp.nan, jnp.inf)],
    [probe[1] for probe in PROBES.values()] + [QUADRATIC[1], (0.0, 0.0), (0.0, 0.0)],
)
CONFIG = TrainConfig(
    num_envs=8,
    learning_starts=80,
    buffer_size=1600,
    gradient_steps=8,
    batch_size=64,
    learning_rate=3e-3,
    gamma=GAMMA,
    tau=0.05,
    total_timesteps=8 * 400,
    net_arch=(32,),
    ent_coef=1e-4,
    reward_scale=1.0,
    policy_averaging=0.01,
    policy_delay=2,
)
STEPS = 150


def make_probe_trainer(config: TrainConfig, seeds: int | None = None) -> Trainer:
    observer = Observer(PROBE, features=lambda observation: observation)
    return Trainer(Observers(observer, observer), config, seeds=seeds)


@functools.cache
def shared_trainer(**options: Any) -> Trainer:
    """One for all probes, so that it is compiled once."""
    return make_probe_trainer(dataclasses.replace(CONFIG, **options))


# More rewards than one have a test in `test_collecting.py` and `test_replay.py` too.
N_STEPS = [1, pytest.param(3, marks=pytest.mark.slow)]


def trained(trainer: Trainer, name: str, epochs: int = 1, seed: int = 0) -> tuple[TrainingState, Any]:
    """After some epochs of STEPS steps; and the last metrics."""
    params = jnp.int32(NAMES.index(name))
    state = trainer.init(jax.random.key(seed), params)
    for epoch in range(epochs):
        state, metrics = trainer.epoch(state, params, jnp.int32(epoch * STEPS), steps=STEPS)
    return state, metrics


@pytest.mark.parametrize("n_step", N_STEPS)
@pytest.mark.parametrize("name", PROBES)
def test_critics_find_the_known_values(name, n_step):
    trainer, expected = shared_trainer(n_step=n_step), PROBES[name][2]
    state, _ = trained(trainer, name, epochs=2)
    # All probes have as many rows, so that this is compiled once.
    observations = np.resize([*expected], (5, 1)).astype(np.float32)
    values = values_of(trainer, state.learner, observations)[: len(expected)]
    np.testing.assert_allclose(values, list(expected.values()), atol=0.06)


@functools.partial(jax.jit, static_argnums=0)
def values_of(trainer: Trainer, learner: LearnerState, observations: jax.Array) -> jax.Array:
    actions = trainer.policy(learner.ema_policy, observations)
    return trainer.agent.networks.critics.apply(learner.critic_params, observations, actions).mean(axis=0)


@pytest.mark.parametrize("n_step", N_STEPS)
def test_actor_finds_the_best_action(n_step):
    trainer = shared_trainer(n_step=n_step)
    state, _ = trained(trainer, "quadratic", epochs=2)
    actions = jax.jit(trainer.policy)(state.learner.ema_policy, jnp.array([[-1.0], [1.0]]))
    np.testing.assert_allclose(actions, [[-0.5], [0.5]], atol=0.1)


def test_a_fixed_alpha_is_the_same_after_a_run():
    state, metrics = trained(shared_trainer(n_step=1), "quadratic")
    assert float(jnp.exp(state.learner.log_alpha)) == pytest.approx(1e-4)
    np.testing.assert_allclose(metrics.learned["alpha"][metrics.learning], 1e-4, rtol=1e-5)


@pytest.mark.slow
def test_a_learned_alpha_brings_the_entropy_to_its_target():
    trainer = shared_trainer(ent_coef="auto_0.1", target_entropy=-0.5, learning_rate_schedule="constant")
    state, metrics = trained(trainer, "quadratic", epochs=3)
    assert metrics.learned["entropy"][-50:].mean() == pytest.approx(-0.5, abs=0.15)
    assert 0 < float(jnp.exp(state.learner.log_alpha)) < 10


@pytest.mark.slow
def test_updates_come_after_enough_steps_and_then_every_so_often():
    trainer = shared_trainer(train_freq=3, gradient_steps=4, normalize_observations=True)
    state, metrics = trained(trainer, "reward that depends on the observation")
    done = np.arange(1, STEPS + 1)
    expected = (done * CONFIG.num_envs >= CONFIG.learning_starts) & (done % 3 == 0)
    np.testing.assert_array_equal(metrics.learning, expected)
    assert int(state.learner.updates) == 4 * expected.sum()
    # The policy's updates are half as many, and its metrics are means over those.
    assert int(state.learner.actor_opt_state[0].count) == 2 * expected.sum()
    np.testing.assert_allclose(metrics.learned["alpha"][expected], 1e-4, rtol=1e-5)
    assert all((values[~expected] == 0).all() for values in metrics.learned.values())
    assert all(np.isfinite(values).all() for values in metrics.learned.values())
    # The actions before are uniform, wherever the policy started.
    first = np.asarray(state.replay.action[:9])
    assert first.min() < -0.9
    assert first.max() > 0.9


def test_normalized_observations_are_all_counted():
    trainer = shared_trainer(train_freq=3, gradient_steps=4, normalize_observations=True)
    state, _ = trained(trainer, "reward in every of five steps")
    seen = np.asarray(state.replay.frame["actor"][:STEPS])
    statistics = state.learner.policy.statistics
    assert int(statistics.count) == seen[..., 0].size
    np.testing.assert_allclose(statistics.mean, [seen.mean()], atol=1e-5)
    np.testing.assert_allclose(statistics.squares / statistics.count, [seen.var()], rtol=1e-4)


def test_the_next_episode_begins_one_step_after_an_end():
    state, _ = trained(shared_trainer(n_step=1), "reward in every of five steps")
    rows = jax.tree.map(lambda leaf: np.asarray(leaf[:STEPS]), state.replay)
    # Five steps and the end's own row.
    assert (rows.ended == (np.arange(STEPS) % 6 == 5)[:, None]).all()
    played = np.arange(STEPS) % 6
    np.testing.assert_array_equal(rows.frame["actor"][..., 0], np.repeat(1 - 0.5 * played, 8).reshape(-1, 8))
    assert (rows.terminated[played == 4]).all()
    assert not rows.terminated[played < 4].any()


@pytest.mark.parametrize("name", ["nan", "inf"])
def test_a_reward_that_is_not_finite_shows_in_the_metrics(name):
    _, metrics = trained(shared_trainer(n_step=1), name)
    assert not np.isfinite(metrics.learned["critics_loss"][metrics.learning]).any()
    # Every other step is the end's own.
    assert not np.isfinite(metrics.collected["reward"][::2]).any()
    _, good = trained(shared_trainer(n_step=1), "constant reward")
    assert np.isfinite(good.learned["critics_loss"]).all()


def test_an_epoch_is_compiled_once_and_its_seed_decides_every_bit():
    trainer = shared_trainer(n_step=1)
    states = [trained(trainer, "quadratic", epochs=2, seed=seed)[0] for seed in (5, 5, 6)]
    assert trainer.epoch._cache_size() == 1
    first, again, other = (jax.tree.map(np.asarray, state.learner) for state in states)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (
        first.critic_params["params"]["Dense_0"]["kernel"]
        != other.critic_params["params"]["Dense_0"]["kernel"]
    ).any()


@pytest.mark.slow
def test_seeds_run_side_by_side_as_each_would_alone():
    config = dataclasses.replace(CONFIG, gradient_steps=1, policy_delay=1)
    together, alone = make_probe_trainer(config, seeds=2), make_probe_trainer(config)
    params = jnp.int32(NAMES.index("quadratic"))
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    steps = CONFIG.learning_starts // CONFIG.num_envs
    state = together.init(keys, params)
    first, metrics = together.epoch(state, params, jnp.int32(0), steps=steps)
    assert metrics.learning.shape == (2, steps)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(first))
    assert first.learner.updates.tolist() == [1, 1]
    kernels = [leaf for leaf in jax.tree.leaves(first.learner.policy.actor) if leaf.ndim == 3]
    assert all((kernel[0] != kernel[1]).any() for kernel in kernels)
    for seed in range(2):
        own, _ = alone.epoch(alone.init(keys[seed], params), params, jnp.int32(0), steps=steps)
        for mine, its in zip(jax.tree.leaves(own.learner), jax.tree.leaves(first.learner), strict=True):
            np.testing.assert_allclose(its[seed], mine, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(first.replay.action[seed], own.replay.action)


@pytest.mark.parametrize("late", [2**31 - 3, 10**12], ids=str)
def test_an_epoch_far_into_a_run_is_that_of_the_equivalent_step(late):
    """Ring buffer and updates go on in phase, and the metrics of the run say so."""
    options: dict[str, Any] = {"train_freq": 3, "gradient_steps": 4, "normalize_observations": True}
    trainer, length = shared_trainer(**options), CONFIG.buffer_size // CONFIG.num_envs
    # The larger one is not compiled.
    for starts, each in ((1_000_000_000, shared_trainer(**options, learning_starts=10**9)), (80, trainer)):
        step = each.equivalent_step(late)
        assert step + STEPS < 2**31
        assert step >= starts // CONFIG.num_envs
        assert (step % length, step % 3) == (late % length, late % 3)
    params = jnp.int32(0)
    _, metrics = trainer.epoch(trainer.init(jax.random.key(0), params), params, jnp.int32(step), steps=STEPS)
    np.testing.assert_array_equal(metrics.learning, (late + 1 + np.arange(STEPS)) % 3 == 0)


@pytest.mark.slow
def test_the_replay_cannot_tell_equivalent_steps_apart():
    trainer = shared_trainer(n_step=1)
    state, _ = trained(trainer, "reward in every of five steps", epochs=2)
    least = CONFIG.buffer_size // CONFIG.num_envs + 1
    drawn = [
        trainer.draw_batch(jax.random.key(1), state.replay, jnp.int32(step))
        for step in (least + 5, trainer.equivalent_step(least + 5 + 7 * (least - 1)))
    ]
    jax.tree.map(np.testing.assert_array_equal, *drawn)
