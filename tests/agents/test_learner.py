"""One update: what moves, by how much, and what must not move."""

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.normalization import include
from jaxdodge.agents.sac_agent import Batch, Learner, Updates
from jaxdodge.agents.train_config import TrainConfig

KEY = jax.random.key(0)
ACTION_SIZE, BATCH, FEATURES = 2, 4, 3
TRAIN = TrainConfig(
    net_arch=(8,),
    ent_coef=0.1,
    learning_rate_schedule="constant",
    reward_scale=0.5,
    tau=0.25,
    policy_averaging=0.1,
)


@functools.cache
def compiled(**options: Any) -> SimpleNamespace:
    """Updates of a configuration, and their parts as programs that all tests share."""
    updates = Updates(dataclasses.replace(TRAIN, **options), ACTION_SIZE, 100)
    parts = ("init", "update", "update_critics", "update_actor", "critics_loss", "distribution")
    return SimpleNamespace(updates=updates, **{name: jax.jit(getattr(updates, name)) for name in parts})


def random_batch(images: bool = False, state: bool = False, reward: float = 1.0) -> Batch:
    rng = np.random.default_rng(0)

    def vectors() -> np.ndarray:
        return rng.normal(size=(BATCH, FEATURES)).astype(np.float32)

    def inputs() -> Any:
        pixels = rng.integers(0, 256, (BATCH, 32, 32, 1), np.uint8)
        return {"image": pixels, "previous_action": np.ones((BATCH, 2), np.float32)} if images else vectors()

    return Batch(
        inputs=inputs(),
        critic_inputs=vectors() if state else None,
        action=rng.uniform(-1, 1, (BATCH, ACTION_SIZE)).astype(np.float32),
        reward=np.full(BATCH, reward, np.float32),
        discount=np.full(BATCH, 0.9, np.float32),
        next_inputs=inputs(),
        next_critic_inputs=vectors() if state else None,
    )


def started(program: SimpleNamespace, batch: Batch) -> Learner:
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    return program.init(KEY, one.inputs, one.critic_inputs)


def differ(one: Any, other: Any) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any((mine != its).any() for mine, its in leaves)


def assert_mixed(new: Any, old: Any, added: Any, share: float) -> None:
    jax.tree.map(
        lambda n, o, a: np.testing.assert_allclose(n, (1 - share) * o + share * a, rtol=1e-5, atol=1e-6),
        new,
        old,
        added,
    )


# Of the policy's own updates, which are half as many, the averaged one is over a tenth.
@pytest.mark.parametrize(("updates", "share"), [(1, 1 / 1.1), (100, 1 / 6.05), (180, 0.1), (5000, 0.1)])
def test_targets_and_averaged_policy_are_exponential_averages(updates, share):
    program, batch = compiled(), random_batch()
    before, _ = program.update(started(program, batch), batch, KEY)
    before = dataclasses.replace(before, updates=jnp.int32(updates))
    after, _ = program.update(before, batch, jax.random.key(1))
    assert differ(after.critics, before.critics)
    assert differ(after.policy.actor, before.policy.actor)
    assert_mixed(after.target_critics, before.target_critics, after.critics, 0.25)
    assert_mixed(after.average_policy.actor, before.average_policy.actor, after.policy.actor, share)
    assert int(after.updates) == updates + 1


def test_networks_see_normalized_vectors_and_the_averaged_policy_the_newest_statistics():
    program, batch = compiled(normalize_observations=True), random_batch()
    learner = started(program, batch)

    def with_statistics(learner: Learner, inputs: np.ndarray) -> Learner:
        statistics = include(program.updates.init_policy(KEY, inputs[0]).statistics, inputs)
        return dataclasses.replace(learner, policy=dataclasses.replace(learner.policy, statistics=statistics))

    learner = with_statistics(learner, batch.inputs)
    after, _ = program.update(learner, batch, KEY)
    assert not differ(after.average_policy.statistics, learner.policy.statistics)
    # In other units everything is the same.
    units = dataclasses.replace(
        batch, inputs=1000 * batch.inputs + 7, next_inputs=1000 * batch.next_inputs + 7
    )
    same, _ = program.update(with_statistics(learner, units.inputs), units, KEY)
    for name in ("critics", "log_temperature"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
            getattr(same, name),
            getattr(after, name),
        )
    one, other = (program.distribution(policy, batch.inputs)[0] for policy in (after.policy, same.policy))
    assert differ(one, other)
    np.testing.assert_allclose(program.distribution(same.policy, units.inputs)[0], one, atol=1e-3)


def test_where_nothing_follows_the_critics_learn_the_scaled_reward():
    program = compiled()
    batch = dataclasses.replace(random_batch(reward=3.0), discount=np.zeros(BATCH, np.float32))
    learner = started(program, batch)
    _, metrics = program.update(learner, batch, KEY)
    values = np.asarray(jax.jit(program.updates.critics.apply)(learner.critics, batch.inputs, batch.action))
    expected = 0.5 * ((values - 1.5) ** 2).mean(axis=1).sum()
    assert float(metrics["critics_loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["value"]) == pytest.approx(values.mean(), abs=1e-6)


def test_critics_bootstrap_from_the_lower_target_and_the_entropy():
    program, batch = compiled(), random_batch()
    learner = started(program, batch)
    # Targets of 5 and 7, critics of 0, and an actor of known density, whatever they see.
    critics, actor = (jax.tree.map(np.zeros_like, tree) for tree in (learner.critics, learner.policy.actor))
    targets = jax.tree.map(np.copy, critics)
    targets["params"]["Dense_1"]["bias"][:, 0] = 7, 5
    policy = dataclasses.replace(learner.policy, actor=actor)
    learner = dataclasses.replace(learner, target_critics=targets, critics=critics, policy=policy)
    losses = [
        program.critics_loss(critics, {}, learner, batch, jax.random.key(seed))[0] for seed in range(300)
    ]
    # Of a Gaussian of deviation exp(-1.5), less what tanh takes: E[log(1 - tanh(x)^2)], by quadrature.
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    squashed = (weights * np.log1p(-(np.tanh(np.exp(-1.5) * points) ** 2))).sum() / np.sqrt(2 * np.pi)
    entropy = ACTION_SIZE * (0.5 * np.log(2 * np.pi * np.e) - 1.5 + squashed)
    target = 0.5 * 1 + 0.9 * (5 + 0.1 * entropy)
    assert np.mean(losses) == pytest.approx(target**2, rel=0.005)


@pytest.mark.parametrize("state", [False, True])
def test_the_encoder_learns_from_critics_that_see_images_else_from_the_actor(state):
    program, batch = compiled(), random_batch(images=True, state=state)
    before = started(program, batch)
    middle, seen, _ = program.update_critics(before, batch, KEY)
    after, _ = program.update_actor(middle, batch, seen, KEY)
    assert differ(middle.critics, before.critics)
    assert differ(after.policy.actor, before.policy.actor)
    assert differ(middle.policy.encoder, before.policy.encoder) == (not state)
    assert differ(after.policy.encoder, middle.policy.encoder) == state
    assert differ(after.encoder_optimizer, middle.encoder_optimizer) == state
    assert not differ(after.critics, middle.critics)


def test_a_fixed_temperature_stays():
    program, batch = compiled(), random_batch()
    before = started(program, batch)
    after, metrics = program.update(before, batch, KEY)
    assert not differ(before.log_temperature, after.log_temperature)
    assert float(metrics["temperature"]) == pytest.approx(0.1)


@pytest.mark.parametrize(("entropy", "sign"), [(-1.1, 1), (-0.9, -1)])
def test_a_learned_temperature_falls_while_the_entropy_is_above_its_target(entropy, sign):
    program = compiled(ent_coef="auto_0.3")
    assert program.updates.temperature_start == 0.3
    # The target is half of -2.
    slope = jax.grad(program.updates.temperature_loss)(jnp.log(0.3), jnp.float32(entropy))
    assert -float(slope) == pytest.approx(sign * 0.3 * 0.1, rel=1e-4)


@pytest.mark.parametrize(("option", "target"), [(-0.5, -1.0), (0.0, 0.0), (1.5, 3.0)])
def test_the_target_of_the_entropy_is_per_component(option, target):
    assert compiled(target_entropy=option).updates.target_entropy == target


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [1, 0.75, 0.5, 0.25, 0]), ("constant", [1] * 5)])
def test_the_learning_rate_falls_to_0_over_the_run_or_stays(schedule, shares):
    config = dataclasses.replace(TRAIN, learning_rate=0.01, learning_rate_schedule=schedule, policy_delay=2)
    updates = Updates(config, ACTION_SIZE, 8)
    gradient = np.array([5.0, -1.0, 0.1], np.float32)
    # The actor has half as many updates as the critics.
    for optimizer, each in ((updates.critics_optimizer, 2), (updates.actor_optimizer, 1)):
        state = optimizer.init(gradient)
        for share in np.interp(np.arange(4 * each + 1) / each, np.arange(5), shares):
            changes, state = optimizer.update(gradient, state)
            # Adam's step along a constant gradient is the learning rate.
            np.testing.assert_allclose(changes, -0.01 * share * np.sign(gradient), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_shows(reward):
    program, batch = compiled(), random_batch(reward=reward)
    _, metrics = program.update(started(program, batch), batch, KEY)
    assert not np.isfinite(metrics["critics_loss"])
