"""StableHLO through jax.export, and the parameters as npz."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax import export

from jaxdodge.files import atomic_open, atomic_write

PLATFORMS = ("cpu", "cuda")


def exported_policy(policy: Callable[[Any], jax.Array], space: Any) -> export.Exported:
    """The policy as a program for batches of any size: observations and actions have an axis (n,).

    Args:
        policy: from observations to actions.
        space: of observations.
    """
    (batch,) = export.symbolic_shape("n")
    observation = jax.tree.map(
        lambda box: jax.ShapeDtypeStruct((batch, *box.shape), box.dtype), getattr(space, "spaces", space)
    )
    return export.export(jax.jit(policy), platforms=PLATFORMS)(observation)


def write_stablehlo(exported: export.Exported, path: Path) -> None:
    """Write a program for `jax.export.deserialize`; raises OSError."""
    atomic_write(path, bytes(exported.serialize()))


def write_npz(weights: Any, config: dict[str, Any], path: Path) -> None:
    """Write the parameters as float32 arrays, and the configuration as JSON in `config`.

    A name is the way to a parameter, joined by slashes: `actor/params/Dense_0/kernel`.

    Args:
        weights: `PolicyParams`.
        config: of game and training, by name.
        path: of the file.
    """
    trees = {"actor": weights.actor, "encoder": weights.encoder}
    if weights.statistics is not None:
        statistics = weights.statistics
        trees["statistics"] = {name: getattr(statistics, name) for name in ("count", "mean", "squares")}
    arrays = {name: np.asarray(array) for name, array in traverse_util.flatten_dict(trees, sep="/").items()}
    with atomic_open(path, "wb") as file:
        np.savez(file, allow_pickle=False, config=np.array(json.dumps(config)), **arrays)
