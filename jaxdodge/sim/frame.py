"""A frame: systems in an order, then what they deferred, in the order of the schedule.

The real game draws its order at every start and varies it while running, so a replay passes the recorded
order as data (`jaxdodge.parity`); the simulator uses one of the orders seen most, below. Source: the
specification, "The order of a frame is random in the real game" and "The simulator's own order".
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdodge.sim import systems
from jaxdodge.sim.state import NOT_ASKED, Projectiles, Spawn, State, Throwers, select
from jaxdodge.sim.systems import Inputs

System = Callable[[State, Inputs], State]

# What runs before publish_state, at which a frame of the simulator ends.
BEFORE_PUBLICATION: tuple[System, ...] = (
    systems.move_projectiles,
    systems.process_thrower_indicators,
    systems.spawn_thrower_indicators,
    systems.spawn_projectiles,
    systems.cleanup_projectiles,
    systems.detect_collisions,
    systems.handle_collisions,
)
# What runs after it, with which the next frame begins.
AFTER_PUBLICATION: tuple[System, ...] = (
    systems.handle_commands,
    systems.apply_gravity,
    systems.apply_velocity,
)
OF_INDICATORS = (systems.process_thrower_indicators, systems.spawn_thrower_indicators)


def frame(state: State, inputs: Inputs, with_thrower: bool) -> State:
    """One frame of the simulator, from one publication to the next.

    Args:
        state: as of a publication; a frame's deferred changes may still be pending in it.
        inputs: time step, draw and commands.
        with_thrower: whether the mode is with_thrower; without it there are no indicators to look after.
    """
    for system in AFTER_PUBLICATION:
        state = system(state, inputs)
    idle = set() if with_thrower else set(OF_INDICATORS)
    if not any(command.reset is not False for command in inputs.commands):
        idle.add(systems.handle_commands)
    for system in BEFORE_PUBLICATION + AFTER_PUBLICATION:
        if system in DEFERRED and system not in idle:
            state = DEFERRED[system](state)
    for system in BEFORE_PUBLICATION:
        if with_thrower or system not in OF_INDICATORS:
            state = system(state, inputs)
    return state


def reset_where(condition: jax.Array, state: State, inputs: Inputs, with_thrower: bool) -> State:
    """The frame that begins with a reset command, where the condition holds; else the state as it is.

    Args:
        condition: bool.
        state: as of a publication.
        inputs: of the frame, with the reset among its commands.
        with_thrower: as for `frame`.
    """
    if with_thrower:
        # Several projectiles may appear at once, in an order that depends on what is removed.
        return select(condition, frame(state, inputs, with_thrower), state)
    # Everything seen is removed, so only a throw of the last frame is left: one slot is enough.
    before = state.projectiles
    emptied = jax.tree.map(lambda array: array[:1], before.replace(count=jnp.zeros(1, jnp.int32)))
    emptied = emptied.replace(count=jnp.int32(0), outside=jnp.zeros(1, bool))
    after = frame(state.replace(projectiles=emptied), inputs, with_thrower)

    def with_first(old: jax.Array, new: jax.Array) -> jax.Array:
        first = jnp.where(condition, new, old[:1])
        return jax.lax.dynamic_update_slice_in_dim(old, first, 0, axis=0)

    projectiles = before.replace(
        position=jax.tree.map(with_first, before.position, after.projectiles.position),
        velocity=jax.tree.map(with_first, before.velocity, after.projectiles.velocity),
        count=jnp.where(condition, after.projectiles.count, before.count),
        # What lies beyond the count is never read, but it must not ask to be removed.
        outside=jnp.where(condition, False, before.outside),
    )
    return select(condition, after.replace(projectiles=projectiles), state.replace(projectiles=projectiles))


def _append(table: Projectiles | Throwers, row: dict, due: jax.Array):
    """The table with a row at its end if it is due, and 1 if there was no room for it."""
    slots = jax.tree.leaves(table.position)[0].shape[0]
    here = (jnp.arange(slots, dtype=jnp.int32) == table.count) & due
    fits = due & (table.count < slots)
    columns = {
        name: jax.tree.map(lambda new, old: jnp.where(here, new, old), value, getattr(table, name))
        for name, value in row.items()
    }
    return table.replace(**columns, count=table.count + fits), due & ~fits


def _appear(state: State, spawn: Spawn) -> State:
    row = {"position": spawn.position, "velocity": spawn.velocity}
    projectiles, dropped = _append(state.projectiles, row, spawn.due)
    return state.replace(projectiles=projectiles, dropped_projectiles=state.dropped_projectiles + dropped)


def projectile_appears(state: State) -> State:
    """Deferred by `spawn_projectiles`."""
    state = _appear(state, state.spawned_projectile)
    return state.replace(spawned_projectile=state.spawned_projectile.replace(due=jnp.asarray(False)))


def indicator_appears(state: State) -> State:
    """Deferred by `spawn_thrower_indicators`."""
    spawn = state.spawned_thrower
    row = {
        "position": spawn.position,
        "velocity": spawn.velocity,
        "elapsed": jax.tree.map(jnp.zeros_like, spawn.delay),
        "duration": spawn.delay,
    }
    throwers, dropped = _append(state.throwers, row, spawn.due)
    return state.replace(
        throwers=throwers,
        spawned_thrower=spawn.replace(due=jnp.asarray(False)),
        dropped_throwers=state.dropped_throwers + dropped,
    )


def indicators_fire(state: State) -> State:
    """Deferred by `process_thrower_indicators`: each appears as a projectile, then is removed."""

    def fire(slot: jax.Array, state: State) -> State:
        throwers = state.throwers
        position, velocity = jax.tree.map(lambda array: array[slot], (throwers.position, throwers.velocity))
        return _appear(state, Spawn(position, velocity, throwers.fired[slot]))

    slots = state.throwers.fired.shape[0]
    state = jax.lax.fori_loop(0, slots, fire, state)
    throwers = swap_remove(state.throwers, _ranks(state.throwers.fired))
    return state.replace(throwers=throwers.replace(fired=jnp.zeros(slots, bool)))


def outsiders_leave(state: State) -> State:
    """Deferred by `cleanup_projectiles`."""
    return _remove_projectiles(state, _ranks(state.projectiles.outside))


def cleared_leave(state: State) -> State:
    """Deferred by `handle_commands`: everything that a reset saw."""
    return _remove_projectiles(state, state.projectiles.cleared)


def _remove_projectiles(state: State, ranks: jax.Array) -> State:
    """Both systems may have asked for the same projectile; what is gone asks for nothing more."""
    projectiles = swap_remove(state.projectiles, ranks)
    in_use = jnp.arange(ranks.shape[0], dtype=jnp.int32) < projectiles.count
    return state.replace(
        projectiles=projectiles.replace(
            outside=projectiles.outside & in_use,
            cleared=jnp.where(in_use, projectiles.cleared, NOT_ASKED),
        )
    )


DEFERRED: dict[System, Callable[[State], State]] = {
    systems.handle_commands: cleared_leave,
    systems.spawn_projectiles: projectile_appears,
    systems.spawn_thrower_indicators: indicator_appears,
    systems.process_thrower_indicators: indicators_fire,
    systems.cleanup_projectiles: outsiders_leave,
}


def _ranks(asked: jax.Array) -> jax.Array:
    """A system asks for removals in table order, and nothing has moved in the table since it asked."""
    return jnp.where(asked, jnp.arange(asked.shape[0], dtype=jnp.int32), NOT_ASKED)


def swap_remove(table, ranks: jax.Array):
    """Remove slots as the game's table does: in the order of asking, the last slot in use fills the gap.

    Args:
        table: `Projectiles` or `Throwers`; every array of the shape (slots,) moves along.
        ranks: int32 (slots,): place in the order of asking, NOT_ASKED where nothing is removed.
    """
    slots = jnp.arange(ranks.shape[0], dtype=jnp.int32)
    columns = table.replace(count=None)

    def remove_next(carry):
        columns, ranks, count, remaining = carry
        removed, last = jnp.argmin(ranks), count - 1

        def move(array):
            moved = jax.lax.dynamic_index_in_dim(array, last, keepdims=True)
            return jnp.where(slots == removed, moved, array)

        columns, ranks = jax.tree.map(move, (columns, ranks))
        # The freed slot at the end must not ask again.
        return columns, jnp.where(slots == last, NOT_ASKED, ranks), last, remaining - 1

    asked = jnp.sum(ranks != NOT_ASKED, dtype=jnp.int32)
    columns, _, count, _ = jax.lax.while_loop(
        lambda carry: carry[3] > 0, remove_next, (columns, ranks, table.count, asked)
    )
    return columns.replace(count=count)
