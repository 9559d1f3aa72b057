"""The rules as one GPU kernel, interpreted: the bits of `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdodge
from jaxdodge.sim import kernel

NUM_ENVS, STEPS = 8, 60
# Few slots, and short episodes: quickly compiled, and everything happens in a few steps.
GAME = {
    "level": 2,
    "action_space_type": "basic_4d_jump",
    "projectile_spawn_interval": 0.7,
    "fps": 10,
    "max_episode_steps": 25,
}


def in_use(state) -> list[np.ndarray]:
    """The leaves of a state, with slots beyond the count zeroed."""
    game = state.game

    def cleared(table, count):
        return jax.tree.map(
            lambda leaf: (
                leaf if leaf.ndim == 1 else jnp.where(jnp.arange(leaf.shape[1]) < count[:, None], leaf, 0)
            ),
            table,
        )

    projectiles = cleared(game.projectiles, game.projectiles.count)
    return [
        np.asarray(leaf)
        for leaf in jax.tree.leaves(state.replace(game=game.replace(projectiles=projectiles)))
    ]


@pytest.fixture
def on_gpu(monkeypatch):
    """Environments are traced as on a GPU; their kernels are interpreted."""
    monkeypatch.setattr(kernel, "on_gpu", lambda: True)
    pallas_call = kernel.pl.pallas_call

    def interpreted(*arguments, **options):
        return pallas_call(*arguments, **options | {"interpret": True})

    monkeypatch.setattr(kernel.pl, "pallas_call", interpreted)


def step_and_kernels(env, *arguments):
    """The compiled step of many environments, and how many kernels it has."""
    traced = jax.jit(jax.vmap(env.step, (0, 0, 0, None))).trace(*arguments)
    return traced.lower().compile(), str(traced.jaxpr).count("pallas_call")


def arguments_of_a_step(env, params, rng):
    keys = jax.random.split(jax.random.key(0), NUM_ENVS)
    _, state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)
    return keys, state, rng.uniform(-1, 1, (NUM_ENVS, env.num_actions)).astype(np.float32), params


@pytest.mark.slow
def test_a_step_on_a_gpu_is_two_kernels_with_the_bits_of_vmap(request):
    rng, ends, most = np.random.default_rng(0), 0, 0
    env, params = jaxdodge.make(**GAME)
    keys, state, action, _ = arguments_of_a_step(env, params, rng)
    plain, none = step_and_kernels(env, keys, state, action, params)
    request.getfixturevalue("on_gpu")
    step, two = step_and_kernels(jaxdodge.make(**GAME)[0], keys, state, action, params)
    assert (none, two) == (0, 2)
    for number in range(STEPS):
        action = rng.uniform(-1, 1, action.shape).astype(np.float32)
        inputs = jax.random.split(jax.random.key(number), NUM_ENVS), state, action, params
        (_, state, *found), (_, expected, *others) = step(*inputs), plain(*inputs)
        for one, other in zip(in_use(state), in_use(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        jax.tree.map(np.testing.assert_array_equal, found, others)
        ends += int((found[1] | found[2]).sum())
        most = max(most, int(state.game.projectiles.count.max()))
    assert ends > 0
    assert most > 1


@pytest.mark.slow
@pytest.mark.usefixtures("on_gpu")
def test_rules_that_the_kernel_does_not_know_run_without_it():
    env, params = jaxdodge.make(**GAME | {"observation_mode": "with_thrower"})
    _, count = step_and_kernels(env, *arguments_of_a_step(env, params, np.random.default_rng(0)))
    assert count == 0
