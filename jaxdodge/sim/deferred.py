"""What the systems defer to the end of a frame: spawns and removals,
applied in the order of the schedule.

Source: the specification, "The order of a frame is random in the real game".
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxdodge.sim.state import Projectiles, Spawn, State, Throwers

NOT_REQUESTED = np.int32(2**30)
"""The rank of a slot whose removal is not requested."""

# int32 (slots,): the rank of each projectile among those that a reset removes, NOT_REQUESTED
# for the others. None where no reset can be pending. Kept apart from the state: ranks move
# along with the rows of the table.
Cleared = jax.Array | None
Table = TypeVar("Table", Projectiles, Throwers)
Change = Callable[[State, Cleared], tuple[State, Cleared]]


def apply_deferred(state: State, names: Iterable[str], can_be_cleared: bool) -> State:
    """Apply the deferred changes of a frame.

    Args:
        state: after the systems of the frame.
        names: of the systems, in the order of the schedule.
        can_be_cleared: whether a reset may have been handled since the last call.
    """
    cleared = cleared_ranks(state) if can_be_cleared else None
    for name in names:
        if name in DEFERRED:
            state, cleared = DEFERRED[name](state, cleared)
    return state


def cleared_ranks(state: State) -> jax.Array:
    """The ranks of the projectiles that a reset of this frame removes, after its systems."""
    slots = jnp.arange(state.projectiles.outside.shape[0], dtype=jnp.int32)
    return jnp.where(state.cleared & (slots < state.projectiles.count), slots, NOT_REQUESTED)


def _projectile_appears(state: State, cleared: Cleared) -> tuple[State, Cleared]:
    state = _appear(state, state.spawned_projectile)
    spawn = state.spawned_projectile.replace(due=jnp.asarray(False))
    return state.replace(spawned_projectile=spawn), cleared


def _indicator_appears(state: State, cleared: Cleared) -> tuple[State, Cleared]:
    spawn = state.spawned_thrower
    row = {
        "position": spawn.position,
        "velocity": spawn.velocity,
        "elapsed": jax.tree.map(jnp.zeros_like, spawn.delay),
        "duration": spawn.delay,
    }
    throwers, dropped = _append(state.throwers, row, spawn.due)
    state = state.replace(
        throwers=throwers,
        spawned_thrower=spawn.replace(due=jnp.asarray(False)),
        dropped_throwers=state.dropped_throwers + dropped,
    )
    return state, cleared


def _indicators_fire(state: State, cleared: Cleared) -> tuple[State, Cleared]:
    """Each indicator that fires appears as a projectile, then is removed."""

    def fire(slot: jax.Array, state: State) -> State:
        throwers = state.throwers
        position, velocity = jax.tree.map(lambda array: array[slot], (throwers.position, throwers.velocity))
        return _appear(state, Spawn(position, velocity, throwers.fired[slot]))

    slots = state.throwers.fired.shape[0]
    state = jax.lax.fori_loop(0, slots, fire, state)
    table = state.throwers
    columns = (table.position, table.velocity, table.elapsed, table.duration)
    (position, velocity, elapsed, duration), count = swap_remove(columns, table.count, _ranks(table.fired))
    throwers = Throwers(position, velocity, elapsed, duration, jnp.zeros(slots, bool), count)
    return state.replace(throwers=throwers), cleared


def _outsiders_leave(state: State, cleared: Cleared) -> tuple[State, Cleared]:
    return _remove_projectiles(state, _ranks(state.projectiles.outside), cleared)


def _cleared_leave(state: State, cleared: Cleared) -> tuple[State, Cleared]:
    if cleared is None:
        return state, None
    state, cleared = _remove_projectiles(state, cleared, cleared)
    return state.replace(cleared=jnp.asarray(False)), cleared


DEFERRED: dict[str, Change] = {
    "handle_commands": _cleared_leave,
    "spawn_projectiles": _projectile_appears,
    "spawn_thrower_indicators": _indicator_appears,
    "process_thrower_indicators": _indicators_fire,
    "cleanup_projectiles": _outsiders_leave,
}


def _append(table: Table, row: dict[str, Any], due: jax.Array) -> tuple[Table, jax.Array]:
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


def _ranks(requested: jax.Array) -> jax.Array:
    """A system requests removals in table order, and no row has moved since."""
    return jnp.where(requested, jnp.arange(requested.shape[0], dtype=jnp.int32), NOT_REQUESTED)


def _remove_projectiles(state: State, ranks: jax.Array, cleared: Cleared) -> tuple[State, Cleared]:
    """Two systems may have requested the same removal; it happens once."""
    table = state.projectiles
    columns = (table.position, table.velocity, table.outside, cleared)
    (position, velocity, outside, cleared), count = swap_remove(columns, table.count, ranks)
    in_use = jnp.arange(ranks.shape[0], dtype=jnp.int32) < count
    if cleared is not None:
        cleared = jnp.where(in_use, cleared, NOT_REQUESTED)
    return state.replace(projectiles=Projectiles(position, velocity, outside & in_use, count)), cleared


def swap_remove(columns: Any, count: jax.Array, ranks: jax.Array) -> tuple[Any, jax.Array]:
    """Remove rows as the game's table does: in the order of requests, the last row fills each gap.

    Args:
        columns: tree of arrays (slots,).
        count: int32: rows in use.
        ranks: int32 (slots,): place in the order of requests,
            NOT_REQUESTED where nothing is removed.

    Returns:
        the columns and the count after the removals.
    """
    # Both leave the same rows in the slots in use. Nearly always at most one is removed, so in turn
    # is faster on a CPU. On a GPU such a loop asks the host before each turn.
    return jax.lax.platform_dependent(
        columns, count, ranks, cuda=remove_at_once, rocm=remove_at_once, default=remove_in_turn
    )


def remove_in_turn(columns: Any, count: jax.Array, ranks: jax.Array) -> tuple[Any, jax.Array]:
    """`swap_remove`, one removal after the other."""
    slots = jnp.arange(ranks.shape[0], dtype=jnp.int32)

    def remove_next(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        columns, ranks, count, remaining = carry
        removed, last = jnp.argmin(ranks), count - 1

        def move(array: jax.Array) -> jax.Array:
            moved = jax.lax.dynamic_index_in_dim(array, last, keepdims=True)
            return jnp.where(slots == removed, moved, array)

        columns, ranks = jax.tree.map(move, (columns, ranks))
        # The freed slot at the end must not be removed again.
        return columns, jnp.where(slots == last, NOT_REQUESTED, ranks), last, remaining - 1

    requested = jnp.sum(ranks != NOT_REQUESTED, dtype=jnp.int32)
    columns, _, count, _ = jax.lax.while_loop(
        lambda carry: carry[3] > 0, remove_next, (columns, ranks, count, requested)
    )
    return columns, count


def remove_at_once(columns: Any, count: jax.Array, ranks: jax.Array) -> tuple[Any, jax.Array]:
    """`swap_remove` as one permutation of the rows, without a loop.

    The k-th removal fills its gap with the row that is then the last, in slot `count - k`. That row
    may have left before, and something else filled its gap, and so on. So the row that ends in a
    slot is at the end of this chain: from a removed row to the slot that fills its gap, until a row
    stays. Each round of squaring doubles how far a chain is followed.
    """
    slots = jnp.arange(ranks.shape[0], dtype=jnp.int32)
    requested = ranks != NOT_REQUESTED
    turn = jnp.sum(ranks <= ranks[:, None], axis=1, dtype=jnp.int32)
    source = jnp.where(requested, count - turn, slots)
    for _ in range((ranks.shape[0] - 1).bit_length()):
        source = _take(source, source)
    remaining = count - jnp.sum(requested, dtype=jnp.int32)
    source = jnp.where(slots < remaining, source, slots)
    return jax.tree.map(lambda column: _take(column, source), columns), remaining


def _take(column: jax.Array, slots: jax.Array) -> jax.Array:
    return column.at[slots].get(mode="promise_in_bounds")
