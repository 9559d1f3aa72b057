"""The state of one arena. All arrays are those of a single arena; batches come from `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import PLAYER_START_HEIGHT, GameParams

# The rank of a slot that no reset asked to empty.
NOT_ASKED = np.int32(2**30)


class Vector(struct.PyTreeNode):
    """Three components of one shape, float32. Apart, they are contiguous, which the processor likes best."""

    x: jax.Array
    y: jax.Array
    z: jax.Array

    @classmethod
    def zeros(cls, *shape: int) -> "Vector":
        """The zero vector, or a table of them."""
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
    count: jax.Array
    """int32."""
    outside: jax.Array
    """bool (slots,): `cleanup_projectiles` has asked for the removal."""
    cleared: jax.Array
    """int32 (slots,): the slot's rank among the removals that a reset has asked for, else NOT_ASKED."""


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
    count: jax.Array
    """int32."""
    fired: jax.Array
    """bool (slots,): those that become projectiles at the end of the frame."""


class Spawn(struct.PyTreeNode):
    """A projectile or an indicator that appears at the end of the frame, if `due`."""

    position: Vector
    velocity: Vector
    due: jax.Array
    """bool."""
    delay: Duration | None = None
    """Of an indicator: how long until it becomes its projectile."""


class State(struct.PyTreeNode):
    """One arena between two frames, or between two systems of a frame.

    What the game defers to the end of a frame (spawns, removals) is part of the state, because the cut
    between two environment steps lies inside a frame: after `publish_state`.
    """

    player: Player
    projectiles: Projectiles
    throwers: Throwers
    spawned_projectile: Spawn
    spawned_thrower: Spawn
    spawn_timer: Duration
    """Elapsed time of the repeating spawn timer."""
    spawn_interval: Duration
    """Its duration."""
    collision: jax.Array
    """bool: a collision event waits for `handle_collisions`."""
    game_over: jax.Array
    """bool."""
    episode_steps: jax.Array
    """int32: actions handled since the last reset."""
    dropped_projectiles: jax.Array
    """int32: projectiles that found no free slot since the arena was made."""
    dropped_throwers: jax.Array
    """int32: the same for indicators."""
    params: GameParams
    """The configuration that the systems read."""


def server_start(params: GameParams, projectile_slots: int, thrower_slots: int) -> State:
    """The state of a server that has just started: player at the start, on the ground, timer at zero."""

    def nothing(delay: Duration | None = None) -> Spawn:
        return Spawn(Vector.zeros(), Vector.zeros(), jnp.asarray(False), delay)

    def zeros(*shape: int) -> Duration:
        return Duration(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))

    return State(
        player=Player(player_start(), Vector.zeros(), jnp.asarray(True)),
        projectiles=Projectiles(
            position=Vector.zeros(projectile_slots),
            velocity=Vector.zeros(projectile_slots),
            count=jnp.int32(0),
            outside=jnp.zeros(projectile_slots, bool),
            cleared=jnp.full(projectile_slots, NOT_ASKED),
        ),
        throwers=Throwers(
            position=Vector.zeros(thrower_slots),
            velocity=Vector.zeros(thrower_slots),
            elapsed=zeros(thrower_slots),
            duration=zeros(thrower_slots),
            count=jnp.int32(0),
            fired=jnp.zeros(thrower_slots, bool),
        ),
        spawned_projectile=nothing(),
        spawned_thrower=nothing(zeros()),
        spawn_timer=zeros(),
        spawn_interval=params.spawn_interval,
        collision=jnp.asarray(False),
        game_over=jnp.asarray(False),
        episode_steps=jnp.int32(0),
        dropped_projectiles=jnp.int32(0),
        dropped_throwers=jnp.int32(0),
        params=params,
    )


def player_start() -> Vector:
    """Where a player stands after a reset."""
    return Vector(jnp.float32(0), jnp.float32(0), jnp.float32(PLAYER_START_HEIGHT))


def select(condition: jax.Array | bool, when_true, when_false):
    """One of two trees of the same structure, leaf by leaf; what both share is left as it is."""
    return jax.tree.map(lambda a, b: a if a is b else jnp.where(condition, a, b), when_true, when_false)
