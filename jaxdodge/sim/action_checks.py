"""Checks of actions, with the server's errors: one line with the name, the value, the expected."""

from typing import Any

import numpy as np

from jaxdodge.sim.actions import COMPONENTS, DISCRETE_DIRECTIONS


def checked_actions(action: Any, space: str, num_envs: int | None = None) -> np.ndarray:
    """The action as the game takes it; raises ValueError with one line, as the server refuses it.

    Args:
        action: an action of one environment, or, with `num_envs`, one row for each.
        space: canonical name of the action space.
        num_envs: None for a single environment.

    Returns:
        int32 () or float32 (components,), after (num_envs,) where given.
    """
    discrete = space == "discrete"
    names = () if discrete else COMPONENTS[space]
    low, high = (0, len(DISCRETE_DIRECTIONS) - 1) if discrete else (-1, 1)
    one = f"a whole number, {low} <= value <= {high}"
    if not discrete:
        one = f"{len(names)} numbers ({', '.join(names)}), {low} <= value <= {high}"
    accepted = one if num_envs is None else f"for each of {num_envs} environments {one}"
    shape = (() if num_envs is None else (num_envs,)) + (() if discrete else (len(names),))
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
        where = [] if num_envs is None else [f"environment {index[0]}"]
        where += [] if discrete else [names[index[-1]]]
        name = f"action ({', '.join(where)})" if where else "action"
        raise ValueError(f"{name}: invalid value {array[index].item()!r}; expected {accepted}")
    return array.astype(np.int32) if discrete else array
