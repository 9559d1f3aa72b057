"""The rules as one GPU kernel, interpreted: the bits of `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdodge
from jaxdodge.sim.kernel import one_kernel

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


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1])
def test_a_step_in_one_kernel_has_the_bits_of_vmap(frames):
    env, params = jaxdodge.make(**GAME, frames_per_step=frames)

    def step(throws, throw, state, action, params):
        after, published = env.advance(throws, state, action, params)
        return env.restart_where(published.terminated | published.truncated, throw, after, params), published

    axes = (0, 0, 0, 0, None)
    kernel = jax.jit(one_kernel(step, axes, env.config.projectile_slots, interpret=True))
    plain = jax.jit(jax.vmap(step, axes))
    keys = jax.random.split(jax.random.key(0), NUM_ENVS)
    state = jax.vmap(env.reset, in_axes=(0, None))(keys, params)[1]
    rng, ends, most = np.random.default_rng(0), 0, 0
    for _ in range(STEPS):
        angle = rng.uniform(-0.5, 0.5, (NUM_ENVS, frames + 1)).astype(np.float32)
        x, y = 20 * np.sin(angle), 20 * np.cos(angle)
        action = rng.uniform(-1, 1, (NUM_ENVS, 4)).astype(np.float32)
        inputs = (x[:, 1:], y[:, 1:]), (x[:, 0], y[:, 0]), state, action, params
        (state, published), (expected, expected_published) = kernel(*inputs), plain(*inputs)
        for one, other in zip(in_use(state), in_use(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        jax.tree.map(np.testing.assert_array_equal, published, expected_published)
        ends += int((published.terminated | published.truncated).sum())
        most = max(most, int(published.projectile_count.max()))
    assert ends > 0
    assert most > 1
