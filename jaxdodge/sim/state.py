"""The state of one arena. All arrays are those of a single arena; batches come from `jax.vmap`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.sim.duration import Duration
from jaxdodge.sim.params import PLAYER_START_HEIGHT, GameParams

# A slot that nobody asked to empty; otherwise `removal` holds the slot's rank in the order of asking.
NOT_ASKED = np.int32(2**30)


@struct.dataclass
class Player:
    """The player; metres and seconds."""

    position: jax.Array
    """float32 (3,)."""
    velocity: jax.Array
    """float32 (2,), as commanded; stays until the next action."""
    vertical_velocity: jax.Array
    """float32."""
    on_ground: jax.Array
    """bool."""


@struct.dataclass
class Projectiles:
    """The table of projectiles, in the game's order: the first `count` slots are in use."""

    position: jax.Array
    """float32 (3, slots), metres. Components come first so that arithmetic runs along the slots."""
    velocity: jax.Array
    """float32 (3, slots), m/s."""
    count: jax.Array
    """int32."""
    cleanup: jax.Array
    """int32 (slots,): rank of the removals asked for by `cleanup_projectiles`, else NOT_ASKED."""
    cleared: jax.Array
    """int32 (slots,): rank of the removals asked for by a reset, else NOT_ASKED."""


@struct.dataclass
class Throwers:
    """The table of pending thrower indicators, in the game's order."""

    position: jax.Array
    """float32 (3, slots): where the projectile will appear."""
    velocity: jax.Array
    """float32 (3, slots): its velocity, aimed when the indicator appeared."""
    elapsed: Duration
    """(slots,)."""
    duration: Duration
    """(slots,)."""
    count: jax.Array
    """int32."""
    fired: jax.Array
    """int32 (slots,): rank of those that become projectiles at the end of the frame, else NOT_ASKED."""


@struct.dataclass
class Spawn:
    """A projectile or an indicator that appears at the end of the frame, if `due`."""

    position: jax.Array
    """float32 (3,)."""
    velocity: jax.Array
    """float32 (3,)."""
    due: jax.Array
    """bool."""
    delay: Duration | None = None
    """Of an indicator: how long until it becomes its projectile."""


@struct.dataclass
class State:
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
        return Spawn(jnp.zeros(3, jnp.float32), jnp.zeros(3, jnp.float32), jnp.asarray(False), delay)

    def zeros(*shape: int) -> Duration:
        return Duration(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))

    return State(
        player=Player(
            position=jnp.asarray([0, 0, PLAYER_START_HEIGHT], jnp.float32),
            velocity=jnp.zeros(2, jnp.float32),
            vertical_velocity=jnp.float32(0),
            on_ground=jnp.asarray(True),
        ),
        projectiles=Projectiles(
            position=jnp.zeros((3, projectile_slots), jnp.float32),
            velocity=jnp.zeros((3, projectile_slots), jnp.float32),
            count=jnp.int32(0),
            cleanup=jnp.full(projectile_slots, NOT_ASKED),
            cleared=jnp.full(projectile_slots, NOT_ASKED),
        ),
        throwers=Throwers(
            position=jnp.zeros((3, thrower_slots), jnp.float32),
            velocity=jnp.zeros((3, thrower_slots), jnp.float32),
            elapsed=zeros(thrower_slots),
            duration=zeros(thrower_slots),
            count=jnp.int32(0),
            fired=jnp.full(thrower_slots, NOT_ASKED),
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
