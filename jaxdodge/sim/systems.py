"""The systems of the game: pure functions `(state, params, inputs) ->
state`, named as in the real game.

Source of every rule: the specification, "One frame" and "The order of a frame". A
system changes the state at once, or requests a change that the game defers to the end
of the frame (see `deferred.py`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxdodge.exact import divide, product, sqrt
from jaxdodge.sim.actions import Movement, horizontal_velocity, wants_jump
from jaxdodge.sim.duration import Duration, tick_once, tick_repeating
from jaxdodge.sim.params import SPAWN_DISTANCE, WITH_THROWER, GameParams
from jaxdodge.sim.state import (
    PLAYER_START_HEIGHT,
    Spawn,
    State,
    ThrowerSpawn,
    Vector,
    player_start,
    select,
)

PLAYER_RADIUS = np.float32(0.5)
PROJECTILE_RADIUS = np.float32(0.3)
PLAYER_GRAVITY = np.float32(20)
PROJECTILE_GRAVITY = np.float32(9.8)
JUMP_SPEED = np.float32(7)
RESTITUTION = np.float32(0.7)
FRICTION = np.float32(0.95)
PLAY_ZONE_X, PLAY_ZONE_Y = np.float32(5), np.float32(4)
SPAWN_HEIGHT_ARC, FLIGHT_SECONDS_ARC = np.float32(1.5), np.float32(0.8)
SPAWN_HEIGHT_LINE, FLIGHT_SECONDS_LINE = np.float32(2.5), np.float32(2.0)


class Command(struct.PyTreeNode):
    """One command of a client, as data. All kinds may be off; the command then does nothing."""

    move: Movement | None = None
    """An action; None if the command can be none."""
    step: jax.Array | bool = True
    """Whether the command is an action."""
    reset: jax.Array | bool = False
    """Whether the command resets the game, as every `configure` does."""
    restart_timer: jax.Array | bool = False
    """Whether the command sets the level or the spawn interval."""
    params: GameParams | None = None
    """The configuration once the command is handled; None if the command cannot change it."""


class Inputs(struct.PyTreeNode):
    """What a frame takes from outside."""

    frame_nanoseconds: jax.Array
    """int32, at most 250 ms."""
    frame_seconds: jax.Array
    """float32."""
    spawn_position: tuple[jax.Array, jax.Array]
    """float32: x and y of a projectile thrown in this frame."""
    commands: tuple[Command, ...] = ()
    """In the order of arrival."""


System = Callable[[State, GameParams, Inputs], State]


def handle_commands(state: State, params: GameParams, inputs: Inputs) -> State:
    """Apply the commands that have arrived. Deferred: a reset's removal of all projectiles."""
    for command in inputs.commands:
        params = params if command.params is None else command.params
        state = _restart_timer(state, command)
        state = _reset(state, command)
        state = _step(state, params, command)
    return state


def configured(params: GameParams, inputs: Inputs) -> GameParams:
    """The configuration once the commands of a frame are handled."""
    for command in inputs.commands:
        params = params if command.params is None else command.params
    return params


def _restart_timer(state: State, command: Command) -> State:
    if command.restart_timer is False:
        return state
    return state.replace(spawn_timer=select(command.restart_timer, Duration.zeros(), state.spawn_timer))


def _reset(state: State, command: Command) -> State:
    """Keeps on_ground, pending indicators, a pending collision and the timer's phase."""
    if command.reset is False:
        return state
    after = state.replace(
        player=state.player.replace(position=player_start(), velocity=Vector.zeros()),
        cleared=jnp.asarray(True),
        game_over=jnp.asarray(False),
        episode_steps=jnp.int32(0),
    )
    return select(command.reset, after, state)


def _step(state: State, params: GameParams, command: Command) -> State:
    """Counted and applied after game over too."""
    if command.move is None:
        return state
    jumps = wants_jump(command.move) & state.player.on_ground
    vx, vy = horizontal_velocity(command.move, params)
    vz = jnp.where(jumps, JUMP_SPEED, state.player.velocity.z)
    player = state.player.replace(velocity=Vector(vx, vy, vz))
    after = state.replace(player=player, episode_steps=state.episode_steps + 1)
    return select(command.step, after, state)


def apply_gravity(state: State, params: GameParams, inputs: Inputs) -> State:
    """The player's whole vertical rule."""
    dt, player = inputs.frame_seconds, state.player
    speed = player.velocity.z - product(PLAYER_GRAVITY, dt)
    height = player.position.z + product(speed, dt)
    lands = height <= PLAYER_START_HEIGHT
    return state.replace(
        player=player.replace(
            position=player.position.replace(z=jnp.where(lands, PLAYER_START_HEIGHT, height)),
            velocity=player.velocity.replace(z=jnp.where(lands, jnp.float32(0), speed)),
            on_ground=lands,
        )
    )


def apply_velocity(state: State, params: GameParams, inputs: Inputs) -> State:
    """Move the player horizontally, inside the play zone."""
    dt, player = inputs.frame_seconds, state.player
    x = player.position.x + product(player.velocity.x, dt)
    y = player.position.y + product(player.velocity.y, dt)
    position = player.position.replace(
        x=jnp.clip(x, -PLAY_ZONE_X, PLAY_ZONE_X), y=jnp.clip(y, -PLAY_ZONE_Y, PLAY_ZONE_Y)
    )
    return state.replace(player=player.replace(position=position))


def spawn_projectiles(state: State, params: GameParams, inputs: Inputs) -> State:
    """Modes standard, topdown: throw when the spawn timer fires. Deferred: the projectile."""
    state, thrown = _throw(state, params, inputs, params.observation_mode != WITH_THROWER)
    return state.replace(spawned_projectile=select(thrown.due, thrown, state.spawned_projectile))


def spawn_thrower_indicators(state: State, params: GameParams, inputs: Inputs) -> State:
    """Mode with_thrower: announce when the spawn timer fires. Deferred: the new indicator."""
    state, thrown = _throw(state, params, inputs, params.observation_mode == WITH_THROWER)
    announced = ThrowerSpawn(thrown.position, thrown.velocity, thrown.due, params.thrower_delay)
    return state.replace(spawned_thrower=select(thrown.due, announced, state.spawned_thrower))


def _throw(state: State, params: GameParams, inputs: Inputs, active: jax.Array) -> tuple[State, Spawn]:
    """Advance the spawn timer, if active, and aim at where the player is now."""
    ticked, fired = tick_repeating(state.spawn_timer, params.spawn_interval, inputs.frame_nanoseconds)
    on_arc = params.random_spawn_position

    def climb(height: np.floating, flight_seconds: np.floating) -> np.floating:
        drop = PLAYER_START_HEIGHT - height
        half_gravity = np.float32(0.5) * PROJECTILE_GRAVITY
        return (drop + half_gravity * flight_seconds * flight_seconds) / flight_seconds

    x, y = inputs.spawn_position
    player, flight_seconds = state.player.position, jnp.where(on_arc, FLIGHT_SECONDS_ARC, FLIGHT_SECONDS_LINE)
    spawn = Spawn(
        position=Vector(x, y, jnp.where(on_arc, SPAWN_HEIGHT_ARC, SPAWN_HEIGHT_LINE)),
        velocity=Vector(
            divide(player.x - x, flight_seconds),
            divide(player.y - y, flight_seconds),
            jnp.where(
                on_arc,
                climb(SPAWN_HEIGHT_ARC, FLIGHT_SECONDS_ARC),
                climb(SPAWN_HEIGHT_LINE, FLIGHT_SECONDS_LINE),
            ),
        ),
        due=fired & active,
    )
    return state.replace(spawn_timer=select(active, ticked, state.spawn_timer)), spawn


def spawn_position(draw: jax.Array, params: GameParams) -> tuple[jax.Array, jax.Array]:
    """x and y of a throw from the game's uniform draw in [0, 1), a multiple of 2^-24; float32.

    Sine and cosine differ by an ulp or two between mathematical libraries, so this one rule is not
    bit for bit; replays take the recorded position.
    """
    angle = (draw - 0.5) * 2 * params.spawn_angle
    on_arc = params.random_spawn_position
    return (
        jnp.where(on_arc, product(jnp.sin(angle), SPAWN_DISTANCE), product(draw, 3) - 1.5),
        jnp.where(on_arc, product(jnp.cos(angle), SPAWN_DISTANCE), SPAWN_DISTANCE),
    )


def process_thrower_indicators(state: State, params: GameParams, inputs: Inputs) -> State:
    """Advance the indicators' timers. Deferred: each that fires becomes its projectile."""
    throwers = state.throwers
    slots = jnp.arange(throwers.fired.shape[0], dtype=jnp.int32)
    elapsed, fired = tick_once(throwers.elapsed, throwers.duration, inputs.frame_nanoseconds)
    return state.replace(throwers=throwers.replace(elapsed=elapsed, fired=fired & (slots < throwers.count)))


def move_projectiles(state: State, params: GameParams, inputs: Inputs) -> State:
    """Fall, fly, bounce. Slots beyond the count move too; their values are never used."""
    dt, projectiles = inputs.frame_seconds, state.projectiles
    velocity = projectiles.velocity.replace(z=projectiles.velocity.z - product(PROJECTILE_GRAVITY, dt))
    position = jax.tree.map(lambda p, v: p + product(v, dt), projectiles.position, velocity)
    bounces = (position.z <= PROJECTILE_RADIUS) & (velocity.z < 0)
    bounced = Vector(velocity.x * FRICTION, velocity.y * FRICTION, -velocity.z * RESTITUTION)
    return state.replace(
        projectiles=projectiles.replace(
            position=position.replace(z=jnp.where(bounces, PROJECTILE_RADIUS, position.z)),
            velocity=select(bounces, bounced, velocity),
        )
    )


def cleanup_projectiles(state: State, params: GameParams, inputs: Inputs) -> State:
    """Deferred: the removal of every projectile that has left the world."""
    position = state.projectiles.position
    outside = (position.z < -5) | (position.y < -25) | (position.y > 30) | (jnp.abs(position.x) > 30)
    slots = jnp.arange(outside.shape[0], dtype=jnp.int32)
    return state.replace(
        projectiles=state.projectiles.replace(outside=outside & (slots < state.projectiles.count))
    )


def detect_collisions(state: State, params: GameParams, inputs: Inputs) -> State:
    """One pending event if a projectile touches the player; none once the game is over."""
    # Negated, so that a position of NaN does not survive.
    touches = ~(nearest_distance(state) >= PLAYER_RADIUS + PROJECTILE_RADIUS)
    return state.replace(collision=state.collision | (touches & ~state.game_over))


def nearest_distance(state: State) -> jax.Array:
    """Distance of the player's centre from the nearest projectile's, float32; inf without one."""
    projectiles = state.projectiles
    offset = jax.tree.map(lambda p, q: p - q, projectiles.position, state.player.position)
    squared = product(offset.x, offset.x) + product(offset.y, offset.y) + product(offset.z, offset.z)
    slots = jnp.arange(squared.shape[0], dtype=jnp.int32)
    # The square root is monotonic, so the root of the least square is the least root.
    return sqrt(jnp.min(jnp.where(slots < projectiles.count, squared, jnp.inf)))


def handle_collisions(state: State, params: GameParams, inputs: Inputs) -> State:
    """A pending collision ends the game."""
    return state.replace(game_over=state.game_over | state.collision, collision=jnp.asarray(False))
