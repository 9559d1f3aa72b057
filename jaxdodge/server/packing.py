"""Pytrees of arrays as one int32 vector, bit for bit: each argument adds overhead to a call."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Packing:
    """Packs pytrees with the structure and shapes of `like`; leaves are float32, int32 or bool."""

    def __init__(self, like: Any):
        leaves, self._structure = jax.tree.flatten(like)
        shapes = [jnp.shape(leaf) for leaf in leaves]
        stops = list(itertools.accumulate((math.prod(shape) for shape in shapes), initial=0))
        places = itertools.starmap(slice, itertools.pairwise(stops))
        self._leaves = [
            (place, shape, np.dtype(leaf.dtype))
            for place, shape, leaf in zip(places, shapes, leaves, strict=True)
        ]
        self.size = stops[-1]

    def pack(self, tree: Any) -> jax.Array:
        """Pack a tree into int32 (size,), under jit."""

        def as_int32(leaf: jax.Array) -> jax.Array:
            if leaf.dtype == jnp.bool_:
                return leaf.astype(jnp.int32)
            return jax.lax.bitcast_convert_type(leaf, jnp.int32)

        return jnp.concatenate([as_int32(jnp.asarray(leaf)).reshape(-1) for leaf in jax.tree.leaves(tree)])

    def unpack(self, vector: jax.Array) -> Any:
        """Unpack a vector, under jit."""
        return self._unpacked(vector, jax.lax.bitcast_convert_type)

    def pack_numpy(self, tree: Any) -> np.ndarray:
        """Pack a tree of array-likes into int32 (size,), with NumPy."""
        parts = []
        leaves = self._structure.flatten_up_to(tree)  # type: ignore[attr-defined]
        for leaf, (_, _, dtype) in zip(leaves, self._leaves, strict=True):
            array = np.asarray(leaf, dtype).reshape(-1)
            parts.append(array.astype(np.int32) if dtype == np.bool_ else array.view(np.int32))
        return np.concatenate(parts)

    def unpack_numpy(self, vector: np.ndarray) -> Any:
        """Unpack a vector with NumPy; leaves are views where the dtype allows."""
        return self._unpacked(vector, lambda array, dtype: array.view(dtype))

    def _unpacked(self, vector: Any, as_type: Any) -> Any:
        leaves = []
        for place, shape, dtype in self._leaves:
            part = vector[place].reshape(shape)
            leaves.append(part != 0 if dtype == np.bool_ else as_type(part, dtype))
        return jax.tree.unflatten(self._structure, leaves)
