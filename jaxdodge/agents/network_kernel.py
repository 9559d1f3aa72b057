"""Actor and critics on vectors as GPU kernels (Pallas, Triton).

A network is one kernel, and its gradient another one. XLA makes a dozen of each: every product,
every layer norm and every sum over the batch has its own. Parameters are one vector, see `flat`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxdodge.agents.networks import NUM_CRITICS, Actor, Params, gaussian

BLOCK = 32
"""The most rows of a batch in a block."""
NARROWEST, WIDEST = 16, 128
"""Sides of a matrix product: Triton's smallest, and the largest whose weights fit beside the rows
into shared memory."""
EPSILON = 1e-6
"""Of `flax.linen.LayerNorm`."""
WARPS = 8


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an array of a network is in the vector of all parameters."""

    offset: int
    shape: tuple[int, ...]
    """Of one network."""

    def index(self) -> tuple[Any, Any]:
        """For each element of the array, padded to powers of two: its place, and if it exists.

        In a kernel whose second grid axis is that of the networks.
        """
        index: Any = self.offset + pl.program_id(1) * math.prod(self.shape)
        exists: Any = None
        padded = tuple(padded_size(size) for size in self.shape)
        for axis, size in enumerate(self.shape):
            number = jax.lax.broadcasted_iota(jnp.int32, padded, axis)
            index = index + number * math.prod(self.shape[axis + 1 :])
            exists = number < size if exists is None else exists & (number < size)
        return index, exists


def padded_size(size: int) -> int:
    """The least power of two that is not smaller, and that Triton multiplies."""
    return max(NARROWEST, 1 << (size - 1).bit_length())


def places(params: Params, networks: int) -> tuple[list[dict[str, Place]], int]:
    """Where the layers are in the vector of all parameters, and its size.

    Args:
        params: of an `Actor`; or, with a leading axis, of critics.
        networks: 1 for an actor.
    """
    layers: dict[int, dict[str, Place]] = {}
    offset = 0
    for (_, layer, kind), leaf in jax.tree_util.tree_leaves_with_path(params):
        name, number = layer.key.split("_")
        shape = leaf.shape[1:] if networks > 1 else leaf.shape
        key = f"norm_{kind.key}" if name == "LayerNorm" else kind.key
        layers.setdefault(int(number), {})[key] = Place(offset, shape)
        offset += leaf.size
    return [layers[number] for number in range(len(layers))], offset


def actor_rows(layers: Any, rows: jax.Array) -> jax.Array:
    """As `Actor`, up to its last layer: (rows, padded features) -> (rows, padded outputs)."""
    for number in range(len(layers) - 1):
        rows = jax.nn.relu(_dense(layers[number], rows))
    return _dense(layers[-1], rows)


def critic_rows(layers: Any, rows: jax.Array) -> jax.Array:
    """As a critic: (rows, padded features) -> (rows, padded outputs), of which the first is it."""
    for number in range(len(layers) - 1):
        layer = layers[number]
        rows = _dense(layer, rows)
        mean = rows.mean(axis=-1, keepdims=True)
        variance = jnp.maximum(0, (rows**2).mean(axis=-1, keepdims=True) - mean**2)
        scale = jax.lax.rsqrt(variance + EPSILON) * layer["norm_scale"]
        rows = jax.nn.relu((rows - mean) * scale + layer["norm_bias"])
    return _dense(layers[-1], rows)


def _dense(layer: Any, rows: jax.Array) -> jax.Array:
    return jax.lax.dot(rows, layer["kernel"]) + layer["bias"]


class _Layers(Sequence[dict[str, jax.Array]]):
    """Layers that are loaded when they are used: all at once do not fit into the registers."""

    def __init__(self, layers: list[dict[str, Place]], vector: Any):
        self._layers = layers
        self._vector = vector

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, number: Any) -> Any:
        def load(place: Place) -> jax.Array:
            index, exists = place.index()
            return triton.load(self._vector.at[index], mask=exists, other=0.0)

        return jax.tree.map(load, self._layers[number])


class NetworkKernel:
    """The outputs of networks for the same rows, with a gradient.

    Args:
        function: `actor_rows` or `critic_rows`.
        params: of an `Actor`; or, with a leading axis, of critics.
        networks: 1 for an actor.
    """

    def __init__(self, function: Callable[[Any, jax.Array], jax.Array], params: Params, networks: int):
        self._function = function
        self._networks = networks
        self._places, self._size = places(params, networks)
        self._outputs = self._places[-1]["bias"].shape[0]

    def __call__(self, vector: jax.Array, *parts: jax.Array) -> jax.Array:
        """From parameters and the parts of all rows to float32 (networks, rows, outputs)."""
        width = sum(part.shape[-1] for part in parts)
        padding = jnp.zeros((len(parts[0]), padded_size(width) - width), jnp.float32)
        values = jax.custom_vjp(self._values)

        def forward(vector: Any, rows: Any) -> Any:
            # A structure, because flags would become arrays.
            wanted = tuple(() if one.perturbed else None for one in (vector, rows))
            return self._values(vector.value, rows.value), (vector.value, rows.value, wanted)

        values.defvjp(forward, self._gradients, symbolic_zeros=True)
        return values(vector, jnp.concatenate([*parts, padding], axis=-1))[..., : self._outputs]

    def _values(self, vector: jax.Array, rows: jax.Array) -> jax.Array:
        def kernel(vector: Any, rows: Any, out: Any) -> None:
            out[...] = self._function(_Layers(self._places, vector), rows[...])

        shape = self._networks, len(rows), padded_size(self._outputs)
        return self._call(kernel, (vector, rows), [shape], [_rows_of_network])[0]

    def _gradients(self, saved: Any, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Those of the parameters are summed over blocks, those of the rows over networks."""
        vector, rows, wanted = saved
        by_params, by_rows = (one is not None for one in wanted)

        def kernel(vector: Any, rows: Any, cotangent: Any, *refs: Any) -> None:
            values = list(_Layers(self._places, vector)), rows[...]
            chosen = [value for value, one in zip(values, wanted, strict=True) if one is not None]

            def function(*chosen: Any) -> jax.Array:
                layers = chosen[0] if by_params else values[0]
                return self._function(layers, chosen[-1] if by_rows else values[1])

            gradients = jax.vjp(function, *chosen)[1](cotangent[...])
            if by_params:
                self._store(refs[0], gradients[0])
            if by_rows:
                refs[-1][...] = gradients[-1]

        outputs = [
            ((len(rows) // _block(rows), self._size), _whole_of_block),
            ((self._networks, *rows.shape), _rows_of_network),
        ]
        shapes, specs = zip(
            *[out for out, one in zip(outputs, wanted, strict=True) if one is not None], strict=True
        )
        written = [one.sum(axis=0) for one in self._call(kernel, (vector, rows, cotangent), shapes, specs)]
        return (
            written[0] if by_params else jnp.zeros_like(vector),
            written[-1] if by_rows else jnp.zeros_like(rows),
        )

    def _call(self, kernel: Any, arguments: Any, out_shapes: Any, out_specs: Any) -> list[jax.Array]:
        block = _block(arguments[1])
        in_specs = [_whole, _rows_of_all, _rows_of_network]
        return pl.pallas_call(
            kernel,
            grid=(len(arguments[1]) // block, self._networks),
            in_specs=[spec(array.shape, block) for spec, array in zip(in_specs, arguments, strict=False)],
            out_specs=[spec(shape, block) for spec, shape in zip(out_specs, out_shapes, strict=True)],
            out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in out_shapes],
            compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        )(*arguments)

    def _store(self, vector: Any, layers: Any) -> None:
        def store(place: Place, value: jax.Array) -> None:
            index, exists = place.index()
            triton.store(vector.at[index], value, mask=exists)

        jax.tree.map(store, self._places, layers)


def _block(rows: jax.Array) -> int:
    return math.gcd(len(rows), BLOCK)


def _whole(shape: tuple[int, ...], block: int) -> pl.BlockSpec:
    return pl.BlockSpec(shape, lambda number, network: (0,))


def _whole_of_block(shape: tuple[int, ...], block: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, shape[1]), lambda number, network: (number, 0))


def _rows_of_all(shape: tuple[int, ...], block: int) -> pl.BlockSpec:
    return pl.BlockSpec((block, shape[1]), lambda number, network: (number, 0))


def _rows_of_network(shape: tuple[int, ...], block: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, block, shape[2]), lambda number, network: (network, number, 0))


@dataclasses.dataclass(frozen=True)
class KernelModule:
    """`Actor` or the critics: a kernel where it can, with parameters in one vector.

    Args:
        module: an `FlatModule`, for what the kernel cannot.
        kernel: of the same parameters.
    """

    module: Any
    kernel: NetworkKernel

    def apply(self, vector: jax.Array, *parts: Any) -> Any:
        if parts[0].ndim != 2 or len(parts[0]) % NARROWEST:
            return self.module.apply(vector, *parts)
        outputs = self.kernel(vector, *parts)
        return gaussian(outputs[0]) if len(outputs) == 1 else outputs[..., 0]


def kernel_module(module: Any, params: Params, flat_module: Any) -> Any:
    """`flat_module` with a kernel; or itself, where there is none for such a network.

    Args:
        module: an `Actor` or the critics.
        params: of the module.
        flat_module: the same with parameters in one vector.
    """
    is_actor = isinstance(module, Actor)
    dense = [params["params"].get(f"Dense_{n}", {}).get("kernel") for n in range(len(module.net_arch) + 2)]
    fits = all(padded_size(size) == size <= WIDEST for size in module.net_arch)
    # Of images there is one more layer, the projection.
    if not fits or module.dtype != jnp.float32 or dense[-1] is not None or dense[0].shape[-2] > WIDEST:
        return flat_module
    function, networks = (actor_rows, 1) if is_actor else (critic_rows, NUM_CRITICS)
    return KernelModule(flat_module, NetworkKernel(function, params, networks))
