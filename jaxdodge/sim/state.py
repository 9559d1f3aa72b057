"""The state of one game. All arrays are those of a single game; `jax.vmap` makes batches."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.sim.duration import Duration

Tree = TypeVar("Tree")

PLAYER_START_HEIGHT = np.float32(1.0)


class Vector(struct.PyTreeNode):
    """Three components of one shape, float32, each contiguous so that rules vectorise."""

    x: jax.Array
    y: jax.Array
    z: jax.Array

    @classmethod
    def zeros(cls, *shape: int) -> "Vector":
        """The zero vector, or a table of zero vectors."""
        return cls(*(jnp.zeros(shape, jnp.float32) for _ in range(3)))


class Player(struct.PyTreeNode):
    """The player; scalars."""

    position: Vector
    """Metres."""
    velocity: Vector
    """m/s; x and y as commanded, until the next action."""
    on_ground: jax.Array
    """bool."""


class Projectiles(struct.PyTreeNode):
    """The table of projectiles, in the game's order: the first `count` slots are in use."""

    position: Vector
    """(slots,), metres."""
    velocity: Vector
    """(slots,), m/s."""
    outside: jax.Array
    """bool (slots,): `cleanup_projectiles` has requested the removal."""
    count: jax.Array
    """int32."""


class Throwers(struct.PyTreeNode):
    """The table of pending thrower indicators, in the game's order."""

    position: Vector
    """(slots,): where the projectile will appear."""
    velocity: Vector
    """(slots,): its velocity, aimed when the indicator appeared."""
    elapsed: Duration
    """(slots,)."""
    duration: Duration
    """(slots,)."""
    fired: jax.Array
    """bool (slots,): those that become projectiles at the end of the frame."""
    count: jax.Array
    """int32."""


class Spawn(struct.PyTreeNode):
    """A projectile that appears at the end of the frame if `due`."""

    position: Vector
    velocity: Vector
    due: jax.Array
    """bool."""


class ThrowerSpawn(Spawn):
    """A thrower indicator that appears at the end of the frame if `due`."""

    delay: Duration
    """How long until it becomes its projectile."""


class State(struct.PyTreeNode):
    """A game between two frames, or between two systems of a frame.

    The game defers spawns and removals to the end of a frame. What is deferred is part of the
    state, because a publication, where an environment step ends, lies inside a frame.
    """

    player: Player
    projectiles: Projectiles
    throwers: Throwers
    spawned_projectile: Spawn
    spawned_thrower: ThrowerSpawn
    spawn_timer: Duration
    """Elapsed time of the repeating spawn timer."""
    collision: jax.Array
    """bool: a collision event waits for `handle_collisions`."""
    cleared: jax.Array
    """bool: a reset of this frame has requested the removal of all projectiles in the table."""
    game_over: jax.Array
    """bool."""
    episode_steps: jax.Array
    """int32: actions handled since the last reset."""
    dropped_projectiles: jax.Array
    """int32: projectiles that found no free slot since the start."""
    dropped_throwers: jax.Array
    """int32: the same for indicators."""


def server_start(projectile_slots: int, thrower_slots: int) -> State:
    """The state of a server's start: player at the start, on the ground, timer at zero."""
    no_spawn = (Vector.zeros(), Vector.zeros(), jnp.asarray(False))
    return State(
        player=Player(player_start(), Vector.zeros(), jnp.asarray(True)),
        projectiles=Projectiles(
            position=Vector.zeros(projectile_slots),
            velocity=Vector.zeros(projectile_slots),
            outside=jnp.zeros(projectile_slots, bool),
            count=jnp.int32(0),
        ),
        throwers=Throwers(
            position=Vector.zeros(thrower_slots),
            velocity=Vector.zeros(thrower_slots),
            elapsed=Duration.zeros(thrower_slots),
            duration=Duration.zeros(thrower_slots),
            fired=jnp.zeros(thrower_slots, bool),
            count=jnp.int32(0),
        ),
        spawned_projectile=Spawn(*no_spawn),
        spawned_thrower=ThrowerSpawn(*no_spawn, Duration.zeros()),
        spawn_timer=Duration.zeros(),
        collision=jnp.asarray(False),
        cleared=jnp.asarray(False),
        game_over=jnp.asarray(False),
        episode_steps=jnp.int32(0),
        dropped_projectiles=jnp.int32(0),
        dropped_throwers=jnp.int32(0),
    )


def player_start() -> Vector:
    """Position of a player after a reset."""
    return Vector(jnp.float32(0), jnp.float32(0), jnp.float32(PLAYER_START_HEIGHT))


def select(condition: jax.Array | bool, when_true: Tree, when_false: Tree) -> Tree:
    """One of two trees of one structure, leaf by leaf; shared leaves stay as they are."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(condition, a, b), when_true, when_false)


def cleared(condition: jax.Array | bool, arrays: Tree) -> Tree:
    """A tree of zeros where the condition holds."""
    return jax.tree.map(lambda array: jnp.where(condition, jnp.zeros_like(array), array), arrays)
