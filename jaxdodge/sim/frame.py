"""A frame: the systems in an order, then what they deferred, in the order of the schedule.

Two folds of the same systems: environments run `frame`, whose order is a constant; recordings are
replayed with `ordered_frame`, whose order is data. Source: the specification, "The order of a frame
is random in the real game" and "The simulator's own order".
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdodge.sim import systems
from jaxdodge.sim.deferred import DEFERRED, apply_deferred, cleared_ranks
from jaxdodge.sim.order import SIMULATOR, SYSTEMS, UNOBSERVABLE
from jaxdodge.sim.params import GameParams
from jaxdodge.sim.publish import publish
from jaxdodge.sim.state import State, select
from jaxdodge.sim.systems import Inputs, System, configured, spawn_position

RULES: dict[str, System] = {
    name: getattr(systems, name) for name in SYSTEMS if name not in (*UNOBSERVABLE, "publish_state")
}
"""The systems that change the state, by name."""
OF_INDICATORS = ("process_thrower_indicators", "spawn_thrower_indicators")
SPAWNERS = ("spawn_projectiles", "spawn_thrower_indicators")


def frame(
    state: State,
    params: GameParams,
    inputs: Inputs,
    with_thrower: bool,
    order: Sequence[str] = SIMULATOR,
) -> State:
    """One frame, from one publication to the next, in an order that is constant.

    Args:
        state: as of a publication; a frame's deferred changes may still be pending in it.
        params: of the whole frame.
        inputs: time step, throw and commands.
        with_thrower: whether the mode is with_thrower; otherwise the
            systems of indicators are left out.
        order: of the systems, and the schedule of what they defer.
    """
    order = [name for name in order if with_thrower or name not in OF_INDICATORS]
    publication, handling = order.index("publish_state"), order.index("handle_commands")
    # A reset before the publication is still pending when the next frame begins.
    can_be_cleared = handling < publication or any(c.reset is not False for c in inputs.commands)
    for name in order[publication + 1 :]:
        state = RULES[name](state, params, inputs) if name in RULES else state
    state = apply_deferred(state, order, can_be_cleared)
    for name in order[:publication]:
        state = RULES[name](state, params, inputs) if name in RULES else state
    return state


def reset_where(
    condition: jax.Array | bool,
    state: State,
    params: GameParams,
    inputs: Inputs,
    with_thrower: bool,
    order: Sequence[str] = SIMULATOR,
) -> State:
    """The frame that begins with a reset command, where the condition
    holds; else the state as it is.

    Bit for bit what `frame` gives in the slots in use, with one exception: into a full table
    `frame` drops the throw that is pending, although the reset empties the table.

    Args:
        condition: bool.
        state, params, with_thrower, order: as for `frame`.
        inputs: of the frame, with the reset among its commands.
    """
    if with_thrower or order != SIMULATOR:
        # Several projectiles may appear at once, or projectiles matter that
        # the reset has yet to remove.
        return select(condition, frame(state, params, inputs, with_thrower, order), state)
    # The reset removes everything but a throw of the last frame: one slot is enough.
    before = state.projectiles
    emptied = jax.tree.map(lambda array: array[:1], before.replace(count=jnp.zeros(1, jnp.int32)))
    emptied = emptied.replace(count=jnp.int32(0), outside=jnp.zeros(1, bool))
    after = frame(state.replace(projectiles=emptied), params, inputs, with_thrower)

    def with_first(old: jax.Array, new: jax.Array) -> jax.Array:
        first = jnp.where(condition, new, old[:1])
        return jax.lax.dynamic_update_slice_in_dim(old, first, 0, axis=0)

    projectiles = before.replace(
        position=jax.tree.map(with_first, before.position, after.projectiles.position),
        velocity=jax.tree.map(with_first, before.velocity, after.projectiles.velocity),
        count=jnp.where(condition, after.projectiles.count, before.count),
        # Rows beyond the count must not request their removal.
        outside=jnp.where(condition, False, before.outside),
    )
    return select(condition, after.replace(projectiles=projectiles), state.replace(projectiles=projectiles))


Carry = tuple[State, GameParams, dict]
"""The state, the configuration, and what `publish` last gave."""


def ordered_frame(
    carry: Carry, order: jax.Array, schedule: jax.Array, inputs: Inputs, draw: jax.Array | None = None
) -> Carry:
    """One frame from its first system to the deferred changes, in an order that is data.

    A scan whose body switches over the systems, so frames of all orders share one compilation.

    Args:
        carry: of the frame before.
        order: int (systems,): indices into SYSTEMS, in the order in which they run.
        schedule: the same, the order in which deferred changes are applied.
        inputs: of the frame.
        draw: None, or the frame's uniform draw, float32. A throw then comes from where the
            configuration of the moment says, instead of from `inputs.spawn_position`.

    Returns:
        the new carry.
    """

    def run(carry: Any, system: jax.Array) -> Any:
        return jax.lax.switch(system, [_runs(name, draw) for name in SYSTEMS], carry, inputs), None

    def run_deferred(carry: Any, system: jax.Array) -> Any:
        return jax.lax.switch(system, changes, *carry), None

    changes = [DEFERRED.get(name, lambda state, cleared: (state, cleared)) for name in SYSTEMS]
    (state, params, published), _ = jax.lax.scan(run, carry, order)
    (state, _), _ = jax.lax.scan(run_deferred, (state, cleared_ranks(state)), schedule)
    return state, params, published


def _runs(name: str, draw: jax.Array | None) -> Any:
    def run(carry: Carry, inputs: Inputs) -> Carry:
        state, params, published = carry
        if name == "publish_state":
            return state, params, publish(state, params)
        if name in UNOBSERVABLE:
            return carry
        if name in SPAWNERS and draw is not None:
            inputs = inputs.replace(spawn_position=spawn_position(draw, params))
        state = RULES[name](state, params, inputs)
        return state, configured(params, inputs) if name == "handle_commands" else params, published

    return run
