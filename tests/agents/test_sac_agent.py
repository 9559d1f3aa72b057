"""One update: what moves, by how much, and what must not move."""

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.losses import Batch, alpha_loss, critic_loss
from jaxdodge.agents.networks import init_statistics, update_statistics
from jaxdodge.agents.sac_agent import LearnerState, SACAgent
from jaxdodge.agents.train_config import TrainConfig

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY)
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
    """An agent, and its methods as programs that all tests share."""
    agent = SACAgent(dataclasses.replace(TRAIN, **options), ACTION_SIZE, 100)
    methods = ("init", "update", "update_critics", "update_actor", "distribution")
    return SimpleNamespace(agent=agent, **{name: jax.jit(getattr(agent, name)) for name in methods})


def random_batch(images: bool = False, privileged: bool = False, reward: float = 1.0) -> Batch:
    rng = np.random.default_rng(0)

    def vectors() -> np.ndarray:
        return rng.normal(size=(BATCH, FEATURES)).astype(np.float32)

    def observations() -> Any:
        pixels = rng.integers(0, 256, (BATCH, 32, 32, 1), np.uint8)
        return {"image": pixels, "previous_action": np.ones((BATCH, 2), np.float32)} if images else vectors()

    actor_obs, critic_obs = observations(), vectors()
    next_actor_obs, next_critic_obs = observations(), vectors()
    return Batch(
        actor_obs=actor_obs,
        critic_obs=critic_obs if privileged else actor_obs,
        action=rng.uniform(-1, 1, (BATCH, ACTION_SIZE)).astype(np.float32),
        reward=np.full(BATCH, reward, np.float32),
        discount=np.full(BATCH, 0.9, np.float32),
        next_actor_obs=next_actor_obs,
        next_critic_obs=next_critic_obs if privileged else next_actor_obs,
    )


def started(program: SimpleNamespace, batch: Batch) -> LearnerState:
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    return program.init(KEY, one.actor_obs, one.critic_obs)


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


# The EMA covers a tenth of the actor's updates, which are half of all.
@pytest.mark.parametrize(("updates", "share"), [(1, 1 / 1.1), (100, 1 / 6.05), (180, 0.1), (5000, 0.1)])
def test_targets_and_ema_policy_are_exponential_averages(updates, share):
    program, batch = compiled(), random_batch()
    before, _ = program.update(started(program, batch), batch, KEYS)
    before = dataclasses.replace(before, updates=jnp.int32(updates))
    after, _ = program.update(before, batch, jax.random.split(jax.random.key(1)))
    assert differ(after.critic_params, before.critic_params)
    assert differ(after.policy.actor, before.policy.actor)
    assert_mixed(after.target_critic_params, before.target_critic_params, after.critic_params, 0.25)
    assert_mixed(after.ema_policy.actor, before.ema_policy.actor, after.policy.actor, share)
    assert int(after.updates) == updates + 1


def test_networks_get_normalized_vectors_and_the_ema_policy_the_newest_statistics():
    program, batch = compiled(normalize_observations=True), random_batch()
    learner = started(program, batch)

    def with_statistics(learner: LearnerState, vectors: np.ndarray) -> LearnerState:
        statistics = update_statistics(init_statistics(FEATURES), vectors)
        return dataclasses.replace(learner, policy=dataclasses.replace(learner.policy, statistics=statistics))

    learner = with_statistics(learner, batch.actor_obs)
    after, _ = program.update(learner, batch, KEYS)
    assert not differ(after.ema_policy.statistics, learner.policy.statistics)
    # In other units everything is the same.
    obs, next_obs = 1000 * batch.actor_obs + 7, 1000 * batch.next_actor_obs + 7
    units = dataclasses.replace(
        batch, actor_obs=obs, critic_obs=obs, next_actor_obs=next_obs, next_critic_obs=next_obs
    )
    same, _ = program.update(with_statistics(learner, obs), units, KEYS)
    for name in ("critic_params", "log_alpha"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
            getattr(same, name),
            getattr(after, name),
        )
    one, other = (program.distribution(policy, batch.actor_obs)[0] for policy in (after.policy, same.policy))
    assert differ(one, other)
    np.testing.assert_allclose(program.distribution(same.policy, obs)[0], one, atol=1e-3)


def test_where_nothing_follows_the_critics_learn_the_scaled_reward():
    program = compiled()
    batch = dataclasses.replace(random_batch(reward=3.0), discount=np.zeros(BATCH, np.float32))
    learner = started(program, batch)
    _, metrics = program.update(learner, batch, KEYS)
    apply = jax.jit(program.agent.networks.critics.apply)
    values = np.asarray(apply(learner.critic_params, batch.critic_obs, batch.action))
    expected = 0.5 * ((values - 1.5) ** 2).mean(axis=1).sum()
    assert float(metrics["critics_loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["value"]) == pytest.approx(values.mean(), abs=1e-6)


def test_critics_bootstrap_from_the_lower_target_and_the_entropy():
    program, batch = compiled(), random_batch()
    learner = started(program, batch)
    # Targets of 5 and 7, critics of 0, and an actor of known density, for all observations.
    critics = jax.tree.map(np.zeros_like, learner.critic_params)
    actor = jax.tree.map(np.zeros_like, learner.policy.actor)
    targets = jax.tree.map(np.copy, critics)
    targets["params"]["Dense_1"]["bias"][:, 0] = 7, 5

    @jax.jit
    @jax.vmap
    def loss(key: jax.Array) -> jax.Array:
        alpha, networks = jnp.float32(0.1), program.agent.networks
        return critic_loss(critics, targets, actor, alpha, batch, key, networks, reward_scale=0.5)[0]

    losses = loss(jax.random.split(KEY, 300))
    # Of a Gaussian of deviation exp(-1.5), less what tanh takes: E[log(1
    # - tanh(x)^2)], by quadrature.
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    squashed = (weights * np.log1p(-(np.tanh(np.exp(-1.5) * points) ** 2))).sum() / np.sqrt(2 * np.pi)
    entropy = ACTION_SIZE * (0.5 * np.log(2 * np.pi * np.e) - 1.5 + squashed)
    target = 0.5 * 1 + 0.9 * (5 + 0.1 * entropy)
    assert np.mean(losses) == pytest.approx(target**2, rel=0.005)


@pytest.mark.parametrize(("critic_observation", "learns_from"), [("same", "critics"), ("state", "actor")])
def test_the_encoder_learns_from_critics_that_see_images_else_from_the_actor(critic_observation, learns_from):
    program = compiled(critic_observation=critic_observation)
    assert program.agent.encoder_learns_from == learns_from
    batch = random_batch(images=True, privileged=critic_observation == "state")
    before = started(program, batch)
    middle, encoded, _ = program.update_critics(before, batch, KEY)
    after, _ = program.update_actor(middle, batch, encoded, KEY)
    assert differ(middle.critic_params, before.critic_params)
    assert differ(after.policy.actor, before.policy.actor)
    assert differ(middle.policy.encoder, before.policy.encoder) == (learns_from == "critics")
    assert differ(after.policy.encoder, middle.policy.encoder) == (learns_from == "actor")
    assert differ(after.encoder_opt_state, middle.encoder_opt_state) == (learns_from == "actor")
    assert not differ(after.critic_params, middle.critic_params)


def test_without_the_actors_update_only_critics_change():
    program, batch = compiled(), random_batch()
    before = started(program, batch)
    after, metrics = program.update(before, batch, KEYS, False)
    assert differ(after.critic_params, before.critic_params)
    for name in ("policy", "ema_policy", "log_alpha", "actor_opt_state", "alpha_opt_state"):
        assert not differ(getattr(after, name), getattr(before, name))
    assert [float(metrics[name]) for name in ("actor_loss", "entropy", "alpha")] == [0, 0, 0]


def test_a_fixed_alpha_stays():
    program, batch = compiled(), random_batch()
    before = started(program, batch)
    after, metrics = program.update(before, batch, KEYS)
    assert not differ(before.log_alpha, after.log_alpha)
    # Every second update has this metric, so that the mean over updates is alpha.
    assert float(metrics["alpha"]) == pytest.approx(TRAIN.policy_delay * 0.1)


@pytest.mark.parametrize(("entropy", "sign"), [(-1.1, 1), (-0.9, -1)])
def test_a_learned_alpha_falls_while_the_entropy_is_above_its_target(entropy, sign):
    agent = SACAgent(dataclasses.replace(TRAIN, ent_coef="auto_0.3"), ACTION_SIZE, 100)
    assert agent.config.initial_alpha == 0.3
    assert agent.target_entropy == -1
    slope = jax.grad(alpha_loss)(jnp.log(0.3), jnp.float32(entropy), agent.target_entropy)
    assert -float(slope) == pytest.approx(sign * 0.3 * 0.1, rel=1e-4)


@pytest.mark.parametrize(("option", "target"), [(-0.5, -1.0), (0.0, 0.0), (1.5, 3.0)])
def test_the_target_of_the_entropy_is_per_component(option, target):
    config = dataclasses.replace(TRAIN, target_entropy=option)
    assert SACAgent(config, ACTION_SIZE, 100).target_entropy == target


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [1, 0.75, 0.5, 0.25, 0]), ("constant", [1] * 5)])
def test_the_learning_rate_falls_to_0_over_the_run_or_stays(schedule, shares):
    config = dataclasses.replace(TRAIN, learning_rate=0.01, learning_rate_schedule=schedule, policy_delay=2)
    agent = SACAgent(config, ACTION_SIZE, 8)
    gradient = np.array([5.0, -1.0, 0.1], np.float32)
    # The actor has half as many updates as the critics.
    for optimizer, each in ((agent.critic_optimizer, 2), (agent.actor_optimizer, 1)):
        state = optimizer.init(gradient)
        for share in np.interp(np.arange(4 * each + 1) / each, np.arange(5), shares):
            changes, state = optimizer.update(gradient, state)
            # Adam's step along a constant gradient is the learning rate.
            np.testing.assert_allclose(changes, -0.01 * share * np.sign(gradient), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_shows(reward):
    program, batch = compiled(), random_batch(reward=reward)
    _, metrics = program.update(started(program, batch), batch, KEYS)
    assert not np.isfinite(metrics["critics_loss"])
