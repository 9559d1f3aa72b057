"""SAC on environments whose values are known, and on the game."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdodge.agents.config import TrainConfig
from jaxdodge.agents.evaluation import evaluate
from jaxdodge.agents.game import arena_params, make_sac
from jaxdodge.agents.sac import SAC, Learner, TrainState
from jaxdodge.config import GameConfig

GAMMA = 0.5


class Probe:
    """An environment of one number, which starts at one of `starts` and does what `rule` says.

    rule: (observation, action) -> reward, next observation, terminated, truncated; all scalars.
    """

    num_actions = 1
    default_params = jnp.float32(0)

    def __init__(self, rule: Callable, starts: tuple[float, ...] = (0.0,)):
        self.rule = rule
        self.starts = jnp.array(starts)

    def observation_space(self, params):
        return jax.ShapeDtypeStruct((1,), jnp.float32)

    def reset(self, key, params):
        observation = jax.random.choice(key, self.starts)[None]
        return observation, observation

    def step(self, key, state, action, params):
        reward, final, terminated, truncated = self.rule(state[0], action[0])
        final = jnp.asarray(final, jnp.float32)[None]
        terminated, truncated = jnp.asarray(terminated), jnp.asarray(truncated)
        state = jnp.where(terminated | truncated, self.reset(key, params)[0], final)
        return state, state, jnp.float32(reward), terminated, truncated, {"final_observation": final}


@functools.cache
def trained(probe: Probe, epochs: int = 1) -> tuple[SAC, TrainState]:
    config = TrainConfig(
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
        init_temperature=1e-4,
        reward_scale=1.0,
        policy_averaging=0.01,
    )
    sac = SAC(probe, lambda observation: observation, config)
    params = jnp.zeros(config.num_envs)
    state = sac.init(jax.random.key(0), params)
    for _ in range(epochs):
        state, _ = sac.epoch(state, params, 150)
    return sac, state


def value(sac: SAC, state: TrainState, observation: float) -> float:
    """Of the deterministic action, mean of the critics."""
    features = jnp.array([observation])
    action = sac.policy(state.learner.average_actor, features)
    return float(sac.critics.apply(state.learner.critics, features, action).mean())


PROBES = {
    "constant reward": (Probe(lambda o, a: (1.0, 0.0, True, False)), {0.0: 1.0}),
    "reward that depends on the observation": (
        Probe(lambda o, a: (o, 0.0, True, False), (-1.0, 1.0)),
        {-1.0: -1.0, 1.0: 1.0},
    ),
    "reward one step later": (
        Probe(lambda o, a: (o, 1.0, o == 1, False)),
        {0.0: GAMMA, 1.0: 1.0},
    ),
    "truncation bootstraps": (Probe(lambda o, a: (1.0, 0.0, False, True)), {0.0: 1 / (1 - GAMMA)}),
    "termination does not, even where the step limit is reached too": (
        Probe(lambda o, a: (1.0, 0.0, True, True)),
        {0.0: 1.0},
    ),
    "truncation bootstraps from the true last observation": (
        # From 0 to 1, cut there; the next episode starts at 0 or 1. 1 pays and terminates.
        Probe(lambda o, a: (o, 1.0, o == 1, o == 0), (0.0, 1.0)),
        {0.0: GAMMA, 1.0: 1.0},
    ),
}


@pytest.mark.parametrize("name", PROBES)
def test_critics_find_the_known_values(name):
    probe, expected = PROBES[name]
    sac, state = trained(probe)
    for observation, known in expected.items():
        assert value(sac, state, observation) == pytest.approx(known, abs=0.06)


def test_actor_finds_the_best_action():
    sac, state = trained(Probe(lambda o, a: (-((a - 0.5 * o) ** 2), 0.0, True, False), (-1.0, 1.0)), epochs=2)
    for observation in (-1.0, 1.0):
        action = sac.policy(state.learner.average_actor, jnp.array([observation]))
        assert float(action[0]) == pytest.approx(0.5 * observation, abs=0.1)


def test_averaged_actor_is_the_exponential_average():
    sac, state = trained(PROBES["constant reward"][0])
    before = jax.tree.map(np.asarray, state.learner)
    after, _ = jax.jit(sac.update)(state.learner, _batch(), jax.random.key(1))
    rate = sac.config.policy_averaging
    jax.tree.map(
        lambda new, actor, old: np.testing.assert_allclose(
            new, old + rate * (actor - old), rtol=1e-4, atol=1e-6
        ),
        after.average_actor,
        after.actor,
        before.average_actor,
    )
    assert int(after.updates) == int(before.updates) + 1


def _batch():
    from jaxdodge.agents.replay import Transition

    column = jnp.ones((4, 1))
    return Transition(column, column, column[:, 0], column[:, 0], column)


GAME = GameConfig(
    level=2, spawn_angle_degrees=30.0, action_space_type="basic_3d", frames_per_step=7, response_frame=0
)


def test_a_short_run_beats_a_random_policy_and_repeats_bit_for_bit():
    config = TrainConfig(num_envs=256, learning_starts=10_000, buffer_size=250_000, net_arch=(64, 64))
    sac = make_sac(GAME, config)
    params = arena_params(jax.random.key(0), sac.env.default_params, config)

    def run(epochs: int) -> list[Learner]:
        state, learners = sac.init(jax.random.key(1), params), []
        for _ in range(epochs):
            state, _ = sac.epoch(state, params, 50)
            learners.append(jax.tree.map(np.asarray, state.learner))
        return learners

    learners = run(10)
    jax.tree.map(np.testing.assert_array_equal, run(2), learners[:2])
    assert int(learners[1].updates) > 0
    assert sac.epoch._cache_size() == 1

    def random(_, observation):
        return jax.random.uniform(jax.random.key(7), (len(observation), 3), minval=-1, maxval=1)

    def score(policy, weights) -> float:
        key = jax.random.key(0)
        return evaluate(sac.env, policy, weights, sac.env.default_params, key, 64).summary()["mean"]

    guessed = score(random, None)
    assert guessed < 20
    assert score(sac.policy, learners[-1].average_actor) > guessed + 100
