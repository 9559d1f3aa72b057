"""Refusals of actions, as the server's: one line with what, the value and what is accepted."""

from typing import Any

import numpy as np

from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS


def checked_actions(action: Any, space: str, arenas: int | None = None) -> np.ndarray:
    """The action as the game takes it; raises ValueError with one line, as the server refuses it.

    Args:
        action: an action of one arena, or, with `arenas`, one row for each.
        space: canonical name of the action space.
        arenas: None for a single arena.

    Returns:
        int32 () or float32 (components,), after (arenas,) where given.
    """
    discrete = space == "discrete"
    names = () if discrete else COMPONENTS[space]
    low, high = (0, len(DISCRETE_DIRECTIONS) - 1) if discrete else (-1, 1)
    one = f"a whole number, {low} <= value <= {high}"
    if not discrete:
        one = f"{len(names)} numbers ({', '.join(names)}), {low} <= value <= {high}"
    accepted = one if arenas is None else f"for each of {arenas} arenas {one}"
    shape = (() if arenas is None else (arenas,)) + (() if discrete else (len(names),))
    try:
        array = np.asarray(action)
    except ValueError:
        raise ValueError(f"action: rows of different lengths; expected {accepted}") from None
    if array.shape != shape or array.dtype.kind not in ("iu" if discrete else "iuf"):
        got = f"{action!r}" if array.ndim == 0 else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"action: invalid value {got}; expected {accepted}")
    if not discrete:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    refused = np.argwhere(~((array >= low) & (array <= high)))
    if len(refused):
        index = tuple(refused[0])
        where = [] if arenas is None else [f"arena {index[0]}"]
        where += [] if discrete else [names[index[-1]]]
        name = f"action ({', '.join(where)})" if where else "action"
        raise ValueError(f"{name}: invalid value {array[index].item()!r}; expected {accepted}")
    return array.astype(np.int32) if discrete else array
