"""Orders of a frame's systems, as names: the simulator's own, random ones, those that a user lists.

Source: `parity/README.md`, "The order of a frame is random in the real
game". Nothing here imports JAX.
"""

import random
from collections.abc import Sequence

from jaxdodge.fields import ConfigError

SYSTEMS = (
    "apply_velocity",
    "apply_tilt",
    "apply_gravity",
    "spawn_projectiles",
    "spawn_thrower_indicators",
    "process_thrower_indicators",
    "move_projectiles",
    "cleanup_projectiles",
    "detect_collisions",
    "check_out_of_bounds",
    "handle_collisions",
    "handle_commands",
    "publish_state",
)
# These two change nothing that can be observed.
UNOBSERVABLE = ("apply_tilt", "check_out_of_bounds")

SIMULATOR = (
    "move_projectiles",
    "process_thrower_indicators",
    "spawn_thrower_indicators",
    "spawn_projectiles",
    "cleanup_projectiles",
    "detect_collisions",
    "handle_collisions",
    "publish_state",
    "handle_commands",
    "apply_gravity",
    "apply_velocity",
    *UNOBSERVABLE,
)
# Those in which `done` is published so many frames after the first publication that shows the hit.
SHOWING_DONE_AFTER = (
    SIMULATOR,
    ("handle_collisions", *(name for name in SIMULATOR if name != "handle_collisions")),
    (
        *SIMULATOR[: SIMULATOR.index("detect_collisions")],
        *("publish_state", "handle_collisions", "detect_collisions"),
        *SIMULATOR[SIMULATOR.index("handle_commands") :],
    ),
)
# What was so in every frame of every single-threaded start of the real game: (earlier, later).
ALWAYS = (
    ("move_projectiles", "publish_state"),
    ("move_projectiles", "detect_collisions"),
    ("move_projectiles", "cleanup_projectiles"),
    ("spawn_projectiles", "apply_gravity"),
    ("spawn_thrower_indicators", "apply_gravity"),
    ("apply_gravity", "apply_velocity"),
    ("publish_state", "apply_velocity"),
    ("process_thrower_indicators", "spawn_thrower_indicators"),
)


def draw_order(generator: random.Random) -> tuple[str, ...]:
    """A random order of all systems that obeys ALWAYS; each next one is any that may come."""
    left, order = list(SYSTEMS), []
    while left:
        waits = {later for earlier, later in ALWAYS if earlier in left}
        order.append(generator.choice([name for name in left if name not in waits]))
        left.remove(order[-1])
    return tuple(order)


def checked_order(names: Sequence[str]) -> tuple[str, ...]:
    """An order with every system once; unobservable ones may be missing. Raises ConfigError."""
    order = (*names, *(name for name in UNOBSERVABLE if name not in names))
    unknown = [name for name in order if name not in SYSTEMS]
    twice = [name for name in SYSTEMS if order.count(name) > 1]
    missing = [name for name in SYSTEMS if name not in order]
    for problem, found in (("unknown", unknown), ("named twice", twice), ("missing", missing)):
        if found:
            raise ConfigError(
                f"order: {', '.join(found)} {problem}; expected each of {', '.join(SYSTEMS)} once"
            )
    return order


def as_indices(order: Sequence[str]) -> list[int]:
    """The order as indices into SYSTEMS."""
    return [SYSTEMS.index(name) for name in order]
