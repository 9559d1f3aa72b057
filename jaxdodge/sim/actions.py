"""How an action becomes a velocity and a jump. Source: the specification, "Actions"."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.exact import product
from jaxdodge.sim.params import GameParams

# Components of the continuous spaces. Pitch and roll only turn the drawn capsule.
COMPONENTS = {
    "basic_3d": ("vx", "vy", "sprint"),
    "basic_4d_jump": ("vx", "vy", "sprint", "jump"),
    "tilt_5d": ("vx", "vy", "pitch", "roll", "sprint"),
    "full_6d": ("vx", "vy", "jump", "pitch", "roll", "sprint"),
}
# noop, +y, -y, -x, +x
DISCRETE_DIRECTIONS = np.array([[0, 0], [0, 1], [0, -1], [-1, 0], [1, 0]], np.float32)
# -1 maps to "no sprint" and "no jump", which is what a space without that component does.
ABSENT = np.float32(-1)


class Movement(struct.PyTreeNode):
    """An action of any space; float32 scalars in [-1, 1]."""

    vx: jax.Array
    vy: jax.Array
    sprint: jax.Array
    jump: jax.Array


def action_size(space: str) -> int:
    """Length of an action as a vector: components, or 5 for the one-hot of a discrete action."""
    return len(DISCRETE_DIRECTIONS) if space == "discrete" else len(COMPONENTS[space])


def action_shape(space: str) -> tuple[int, ...]:
    """Of an action: scalar if discrete, else (components,)."""
    return () if space == "discrete" else (len(COMPONENTS[space]),)


def movement(action: jax.Array, space: str) -> Movement:
    """The movement that an action asks for.

    Args:
        action: int32 scalar for `discrete`, else float32 (components,) in [-1, 1].
        space: canonical name of the action space.
    """
    if space == "discrete":
        vx, vy = jnp.asarray(DISCRETE_DIRECTIONS)[action]
        return Movement(vx, vy, jnp.float32(ABSENT), jnp.float32(ABSENT))
    component = dict(zip(COMPONENTS[space], action, strict=True))
    jump = component.get("jump", jnp.float32(ABSENT))
    return Movement(component["vx"], component["vy"], component["sprint"], jump)


def horizontal_velocity(move: Movement, params: GameParams) -> tuple[jax.Array, jax.Array]:
    """The player's velocity along x and y, m/s; not normalised, so diagonals are faster."""
    sprint = (move.sprint + 1) / 2
    effective_speed = params.player_speed * (1 + product(sprint, params.sprint_multiplier))
    return move.vx * effective_speed, move.vy * effective_speed


def wants_jump(move: Movement) -> jax.Array:
    """bool: the jump component, mapped to [0, 1], is above one half."""
    return (move.jump + 1) / 2 > 0.5
