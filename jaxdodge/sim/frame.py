"""A frame: systems in an order, then what they deferred, in the order of the schedule.

The real game draws its order at every start and varies it while running, so a replay passes the recorded
order as data (`jaxdodge.parity`); the simulator uses one of the orders seen most, below. Source: the
specification, "The order of a frame is random in the real game" and "The simulator's own order".
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdodge.sim import systems
from jaxdodge.sim.state import NOT_ASKED, Projectiles, Spawn, State, Throwers
from jaxdodge.sim.systems import Inputs

# Cut after publish_state, so that a frame begins with the commands and ends in what is published.
SIMULATOR_ORDER: tuple[Callable[[State, Inputs], State], ...] = (
    systems.move_projectiles,
    systems.process_thrower_indicators,
    systems.spawn_thrower_indicators,
    systems.spawn_projectiles,
    systems.cleanup_projectiles,
    systems.detect_collisions,
    systems.handle_collisions,
    # publish_state: the cut
    systems.handle_commands,
    systems.apply_gravity,
    systems.apply_velocity,
)


def frame(state: State, inputs: Inputs, with_thrower: bool) -> State:
    """One frame of the simulator, from one publication to the next.

    Args:
        state: as of a publication; a frame's deferred changes may still be pending in it.
        inputs: time step, draw and commands.
        with_thrower: whether the mode is with_thrower; without it there are no indicators to look after.
    """
    left_out = () if with_thrower else (systems.process_thrower_indicators, systems.spawn_thrower_indicators)
    order = [system for system in SIMULATOR_ORDER if system not in left_out]
    start = order.index(systems.handle_commands)
    for system in order[start:]:
        state = system(state, inputs)
    for system in order:
        if system in DEFERRED:
            state = DEFERRED[system](state)
    for system in order[:start]:
        state = system(state, inputs)
    return state


def frame_of_reset(state: State, inputs: Inputs, with_thrower: bool) -> State:
    """The frame that begins with a reset command: `frame`, without carrying the table through it.

    Everything seen is removed, so only a throw of the last frame is left, and it needs one slot. With
    indicators, several projectiles may appear at once, in an order that depends on the removals.
    """
    if with_thrower:
        return frame(state, inputs, with_thrower)
    projectiles = state.projectiles

    def resize(array: jax.Array, slots: int, fill=0) -> jax.Array:
        missing = [(0, 0)] * (array.ndim - 1) + [(0, max(0, slots - array.shape[-1]))]
        return jnp.pad(array[..., :slots], missing, constant_values=fill)

    def table(slots: int, projectiles: Projectiles) -> Projectiles:
        return projectiles.replace(
            position=resize(projectiles.position, slots),
            velocity=resize(projectiles.velocity, slots),
            cleanup=resize(projectiles.cleanup, slots, NOT_ASKED),
            cleared=resize(projectiles.cleared, slots, NOT_ASKED),
        )

    nobody = projectiles.replace(count=jnp.int32(0), cleanup=jnp.full_like(projectiles.cleanup, NOT_ASKED))
    state = frame(state.replace(projectiles=table(1, nobody)), inputs, with_thrower)
    return state.replace(projectiles=table(projectiles.cleanup.shape[0], state.projectiles))


def _appear(state: State, spawn: Spawn) -> State:
    """Append a projectile to the table if it is due; count it if there is no room."""
    projectiles = state.projectiles
    slots = projectiles.cleanup.shape[0]
    here = (jnp.arange(slots, dtype=jnp.int32) == projectiles.count) & spawn.due
    fits = spawn.due & (projectiles.count < slots)
    return state.replace(
        projectiles=projectiles.replace(
            position=jnp.where(here, spawn.position[:, None], projectiles.position),
            velocity=jnp.where(here, spawn.velocity[:, None], projectiles.velocity),
            count=projectiles.count + fits,
        ),
        dropped_projectiles=state.dropped_projectiles + (spawn.due & ~fits),
    )


def projectile_appears(state: State) -> State:
    """Deferred by `spawn_projectiles`."""
    state = _appear(state, state.spawned_projectile)
    return state.replace(spawned_projectile=_done(state.spawned_projectile))


def indicator_appears(state: State) -> State:
    """Deferred by `spawn_thrower_indicators`."""
    throwers, spawn = state.throwers, state.spawned_thrower
    slots = throwers.fired.shape[0]
    here = (jnp.arange(slots, dtype=jnp.int32) == throwers.count) & spawn.due
    fits = spawn.due & (throwers.count < slots)
    duration = jax.tree.map(
        lambda new, old: jnp.where(here, new, old), spawn.delay, throwers.duration
    )
    return state.replace(
        throwers=throwers.replace(
            position=jnp.where(here, spawn.position[:, None], throwers.position),
            velocity=jnp.where(here, spawn.velocity[:, None], throwers.velocity),
            elapsed=jax.tree.map(lambda old: jnp.where(here, 0, old), throwers.elapsed),
            duration=duration,
            count=throwers.count + fits,
        ),
        spawned_thrower=_done(spawn),
        dropped_throwers=state.dropped_throwers + (spawn.due & ~fits),
    )


def _done(spawn: Spawn) -> Spawn:
    return spawn.replace(due=jnp.asarray(False))


def indicators_fire(state: State) -> State:
    """Deferred by `process_thrower_indicators`: each appears as a projectile, then is removed."""

    def fire(slot: int, state: State) -> State:
        throwers = state.throwers
        due = throwers.fired[slot] != NOT_ASKED
        return _appear(state, Spawn(throwers.position[:, slot], throwers.velocity[:, slot], due))

    state = jax.lax.fori_loop(0, state.throwers.fired.shape[0], fire, state)
    return state.replace(throwers=swap_remove(state.throwers, "fired"))


def outsiders_leave(state: State) -> State:
    """Deferred by `cleanup_projectiles`."""
    return state.replace(projectiles=swap_remove(state.projectiles, "cleanup"))


def cleared_leave(state: State) -> State:
    """Deferred by `handle_commands`: everything that a reset saw."""
    return state.replace(projectiles=swap_remove(state.projectiles, "cleared"))


DEFERRED: dict[Callable[[State, Inputs], State], Callable[[State], State]] = {
    systems.handle_commands: cleared_leave,
    systems.spawn_projectiles: projectile_appears,
    systems.spawn_thrower_indicators: indicator_appears,
    systems.process_thrower_indicators: indicators_fire,
    systems.cleanup_projectiles: outsiders_leave,
}


def swap_remove(table: Projectiles | Throwers, asked: str):
    """Remove the slots that a system asked to empty, as the game's table does.

    In the order of asking, the last slot in use moves into the place of the removed one.

    Args:
        table: `Projectiles` or `Throwers`.
        asked: name of the field of ranks, int32 (slots,); NOT_ASKED where nothing is removed.
    """
    slots = jnp.arange(getattr(table, asked).shape[0], dtype=jnp.int32)

    def remove_next(table):
        ranks = getattr(table, asked)
        removed = jnp.argmin(ranks)
        last = table.count - 1

        def move(array):
            if array.ndim == 0:
                return array
            moved = jax.lax.dynamic_index_in_dim(array, last, axis=-1, keepdims=True)
            return jnp.where(slots == removed, moved, array)

        shrunk = jax.tree.map(move, table).replace(count=last)
        # The freed slot at the end must not ask again.
        return shrunk.replace(
            **{asked: jnp.where(slots == last, NOT_ASKED, getattr(shrunk, asked))},
        )

    return jax.lax.while_loop(
        lambda table: jnp.any(getattr(table, asked) != NOT_ASKED), remove_next, table
    )
