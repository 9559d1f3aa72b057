"""A function of one environment as one GPU kernel over many (Pallas, Triton).

The rules are not written twice: the function is traced for one environment, and its operations are
applied in the kernel to blocks of environments, see `BlockTrace`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.interpreters import partial_eval

from jaxdodge.sim.block_trace import BlockTrace

BLOCK = 32
"""The most environments of a block."""
WARPS = 4


def on_gpu() -> bool:
    """Whether functions of many environments become one kernel: JAX's default platform is a GPU."""
    return jax.default_backend() == "gpu"


def one_kernel_on_gpu(function: Callable[..., Any], slots: int) -> Callable[..., Any]:
    """The function; on a GPU, its `jax.vmap` is one kernel, if the kernel knows its operations.

    Args:
        function, slots: as for `one_kernel`.
    """
    if not on_gpu():
        return function

    @jax.custom_batching.custom_vmap
    def one(*arguments: Any) -> Any:
        return function(*arguments)

    @one.def_vmap
    def many(size: int, batched: Any, *arguments: Any) -> Any:
        try:
            results = one_kernel(function, tuple(batched), slots)(*arguments)
        except NotImplementedError:
            axes = [jax.tree.map(lambda is_batched: 0 if is_batched else None, each) for each in batched]
            results = jax.vmap(function, axes)(*arguments)
        return results, jax.tree.map(lambda _: True, results)

    return one


def one_kernel(function: Callable[..., Any], batched: tuple[Any, ...], slots: int) -> Callable[..., Any]:
    """`jax.vmap(function)` as one kernel.

    Args:
        function: of trees of arrays of one environment. Its loops may have any length. A game with
            indicators of throwers is not supported (NotImplementedError).
        batched: per argument, a bool for all of it or a tree of bools: whether it has a leading
            axis of environments.
        slots: of the table; a power of two. Arrays (slots,) are columns.

    Returns:
        a function of the same arguments as `vmap` takes. Blocks are as large as the greatest power
        of two, at most BLOCK, that divides the number of environments.
    """

    def many(*arguments: Any) -> Any:
        is_batched = jax.tree.leaves(jax.tree.broadcast(batched, arguments))
        leaves, tree = jax.tree.flatten(arguments)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        size = next(leaf.shape[0] for leaf, many in zip(leaves, is_batched, strict=True) if many)
        one = [
            jax.ShapeDtypeStruct(leaf.shape[1:] if many else leaf.shape, leaf.dtype)
            for leaf, many in zip(leaves, is_batched, strict=True)
        ]
        program, out_shapes = jax.make_jaxpr(
            lambda *flat: function(*jax.tree.unflatten(tree, flat)), return_shape=True
        )(*one)
        out_leaves, out_tree = jax.tree.flatten(out_shapes)
        # A kernel takes no arrays without elements.
        jaxpr, used = partial_eval.dce_jaxpr(program.jaxpr, [leaf.size > 0 for leaf in out_leaves])
        taken = [number for number, needed in enumerate(used) if needed]
        given = [number for number, leaf in enumerate(out_leaves) if leaf.size]
        trace = BlockTrace(math.gcd(size, BLOCK), slots)

        def kernel(*refs: Any) -> None:
            values = [
                trace.load(ref, one[number], is_batched[number])
                for ref, number in zip(refs, taken, strict=False)
            ]
            results = trace.run(jaxpr, program.consts, values)
            for ref, result in zip(refs[len(taken) :], results, strict=True):
                trace.store(ref, result)

        def spec(shape: tuple[int, ...], many: bool) -> pl.BlockSpec:
            if many:
                return pl.BlockSpec((trace.block, *shape), lambda index: (index, *(0 for _ in shape)))
            return pl.BlockSpec(shape, lambda index: (0,) * len(shape))

        results = [jnp.zeros((size, *leaf.shape), leaf.dtype) for leaf in out_leaves]
        written = pl.pallas_call(
            kernel,
            grid=(size // trace.block,),
            in_specs=[spec(one[number].shape, is_batched[number]) for number in taken],
            out_specs=[spec(out_leaves[number].shape, True) for number in given],
            out_shape=[jax.ShapeDtypeStruct(results[n].shape, results[n].dtype) for n in given],
            compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        )(*(leaves[number] for number in taken))
        for number, result in zip(given, written, strict=True):
            results[number] = result
        return jax.tree.unflatten(out_tree, results)

    return many
