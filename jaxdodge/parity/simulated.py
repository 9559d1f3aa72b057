"""The simulator's rules, applied to states that a session shows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.sim.params import GameParams
from jaxdodge.sim.state import State, Vector, server_start
from jaxdodge.sim.systems import Command, Inputs

ROUND = 1024
"""Arrays of rows are padded to multiples of it: few lengths mean few compilations."""


def map_rows(rule: Callable[[Any, GameParams], Any], rows: Any, params: GameParams) -> Any:
    """`rule(row, params)` of every row, compiled.

    Args:
        rule: a function of a module, so that it is compiled once.
        rows: arrays with the same first axis.
        params: of the game.

    Returns:
        Arrays of NumPy with that first axis.
    """
    count = len(jax.tree.leaves(rows)[0])
    size = count + -count % ROUND
    padded = jax.tree.map(lambda array: np.resize(array, (size, *array.shape[1:])), rows)
    return jax.tree.map(lambda array: np.asarray(array)[:count], _map_rows(padded, params, rule))


@partial(jax.jit, static_argnames="rule")
def _map_rows(rows: Any, params: GameParams, rule: Callable[[Any, GameParams], Any]) -> Any:
    return jax.vmap(rule, in_axes=(0, None))(rows, params)


def a_frame(seconds: Any = 0.0, *commands: Command) -> Inputs:
    """A frame's inputs; nothing is thrown."""
    return Inputs(jnp.int32(0), jnp.float32(seconds), (jnp.float32(0), jnp.float32(0)), commands)


def flying(rows: jax.Array, count: Any = 0) -> State:
    """A state whose projectiles have these positions and velocities, float32 (n, 6)."""
    x, y, z, vx, vy, vz = rows.T
    state = server_start(len(rows), 1)
    projectiles = state.projectiles.replace(
        position=Vector(x, y, z), velocity=Vector(vx, vy, vz), count=jnp.int32(count)
    )
    return state.replace(projectiles=projectiles)
