"""What the tests of the environment share: keys, comparisons, random play."""

import jax
import numpy as np

from jaxdodge.sim.env import DodgeEnv
from jaxdodge.sim.systems import Inputs, spawn_position

FRAME = 16_666_667
# Throws that come often enough to kill within a second.
DENSE = {"level": 2, "spawn_angle_degrees": 30.0, "projectile_spawn_interval": 0.1}
SMALL_IMAGE = {"image_obs_width": 40, "image_obs_height": 32}
# Where a throw of the last frame comes from, which differs between two draws.
THROW = tuple(f"[1].game.spawned_projectile.{of}.{axis}" for of in ("position", "velocity") for axis in "xyz")
MODES = {"standard": 65, "with_thrower": 69, "topdown": None}


def key_of(*numbers: int) -> jax.Array:
    key = jax.random.key(numbers[0])
    for number in numbers[1:]:
        key = jax.random.fold_in(key, number)
    return key


def assert_same(one, other, but: tuple[str, ...] = ()) -> None:
    """All leaves equal, bit for bit."""
    one, other = (jax.tree_util.tree_leaves_with_path(tree) for tree in (one, other))
    for (path, mine), (its_path, its) in zip(one, other, strict=True):
        assert path == its_path
        name = jax.tree_util.keystr(path)
        if name not in but:
            np.testing.assert_array_equal(bits(mine), bits(its), err_msg=name)


def bits(leaf) -> np.ndarray:
    """The leaf, floats as whole numbers, so that -0.0 and 0.0 and the kinds of NaN differ."""
    array = np.ascontiguousarray(leaf)
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


def described(tree) -> list:
    return [
        (jax.tree_util.keystr(path), leaf.shape, leaf.dtype)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def random_actions(env: DodgeEnv, seed: int, steps: int):
    if env.config.action_space_type == "discrete":
        return jax.random.randint(key_of(seed), (steps,), 0, 5)
    return jax.random.uniform(key_of(seed), (steps, env.num_actions), minval=-1, maxval=1)


def states_of_play(env: DodgeEnv, params, num_envs: int, steps: int):
    """States (num_envs, ...) after random play without reset, dead ones among them."""

    def play(key):
        _, state = env.reset(key, params)
        actions = jax.random.uniform(key, (steps, env.num_actions), minval=-1, maxval=1)
        keys = jax.random.split(key, steps)
        return jax.lax.scan(
            lambda s, x: (env.step_env(x[0], s, x[1], params)[1], None), state, (keys, actions)
        )[0]

    return jax.jit(jax.vmap(play))(jax.random.split(key_of(9), num_envs))


def inputs_of(draw, params, *commands) -> Inputs:
    throw = spawn_position(draw, params)
    return Inputs(params.frame_nanoseconds, params.frame_seconds, throw, commands)
