"""The operations of one environment, applied to a block of environments inside a kernel.

A table's column of slots is one array (block, slots) there. Everything else is split into its
numbers, each a vector (block,), so stacking and indexing are only bookkeeping, done while tracing.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core


class Slots:
    """A table's column in the kernel: (block, slots)."""

    def __init__(self, array: Any):
        self.array = array


# Anything else of one environment: a NumPy array of objects, of the array's shape. Each is a vector
# (block,), or a NumPy scalar if it is constant.
Value = Any


def _array(shape: Sequence[int], numbers: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(numbers), object)
    for place, number in enumerate(numbers):
        array[place] = number
    return array.reshape(shape)


def _constant(value: Any, dtype: Any = None) -> np.ndarray:
    array = np.asarray(value, dtype)
    return _array(array.shape, list(array.ravel()))


def _is_constant(number: Any) -> bool:
    return isinstance(number, np.generic)


class BlockTrace:
    """Applies the operations of one environment to a block of them."""

    def __init__(self, block: int, slots: int):
        self.block = block
        self.slots = slots

    def load(self, ref: Any, leaf: Any, many: bool) -> Value:
        """One argument of the function."""
        if many and leaf.shape == (self.slots,):
            return Slots(ref[...])
        places = [(slice(None), *place) if many else place for place in np.ndindex(leaf.shape)]
        return _array(leaf.shape, [self.vector(ref[place]) for place in places])

    def store(self, ref: Any, value: Value) -> None:
        """One result of the function."""
        if isinstance(value, Slots) or value.shape == (self.slots,):
            ref[...] = self.column(value)
            return
        for place in np.ndindex(value.shape):
            ref[(slice(None), *place)] = self.vector(value[place])

    def vector(self, number: Any) -> Any:
        """A number of every environment, (block,)."""
        number = jnp.asarray(number)
        return jnp.broadcast_to(number, (self.block,)) if number.shape == () else number

    def column(self, value: Value) -> Any:
        """A value of any shape that broadcasts to (slots,), as (block, slots)."""
        if isinstance(value, Slots):
            return value.array
        numbers = list(value.ravel())
        if len(numbers) > 1 and not all(number is numbers[0] for number in numbers):
            constant = all(map(_is_constant, numbers))
            if not constant or len({number.tobytes() for number in numbers}) > 1:
                raise NotImplementedError("a column of different numbers")
        return jnp.broadcast_to(self.vector(numbers[0])[:, None], (self.block, self.slots))

    def numbers_of_slots(self) -> Any:
        """int32 (block, slots)."""
        return lax.broadcasted_iota(jnp.int32, (self.block, self.slots), 1)

    def run(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
        """The results of a traced function."""
        values: dict[Any, Value] = {
            variable: _constant(value) for variable, value in zip(jaxpr.constvars, consts, strict=True)
        }
        values |= dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            if not isinstance(atom, core.Literal):
                return values[atom]
            aval: Any = atom.aval
            return _constant(atom.val, aval.dtype)

        for equation in jaxpr.eqns:
            outputs = self.apply(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, equation: Any, inputs: list[Value]) -> list[Value]:
        """The results of one operation. Raises NotImplementedError: one that no rule has."""
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        if name == "platform_index":
            # The default branch is the last, and right on every platform.
            return [_constant(np.int32(params["platforms"].index(None)))]
        if name == "cond" and _is_constant(inputs[0][()]):
            branch = params["branches"][int(inputs[0][()])]
            return self.run(branch.jaxpr, branch.consts, inputs[1:])
        if hasattr(self, f"_{name}"):
            result = getattr(self, f"_{name}")(inputs, params, equation.outvars[0].aval)
            return result if isinstance(result, list) else [result]
        if name in REDUCTIONS:
            return [self._reduce(inputs[0], params, *REDUCTIONS[name])]
        if name in UNSUPPORTED:
            raise NotImplementedError(name)
        return [self.elementwise(equation.primitive, params, inputs, equation.outvars[0].aval.shape)]

    def elementwise(self, primitive: Any, params: Any, inputs: list[Value], shape: Any) -> Value:
        """An operation on numbers, for arrays of a shape."""
        if any(isinstance(value, Slots) for value in inputs):
            columns = [self.column(value) for value in inputs]
            if primitive.name == "clamp":
                low, value, high = columns
                return Slots(jnp.minimum(jnp.maximum(value, low), high))
            return Slots(primitive.bind(*columns, **params))
        spread = [np.broadcast_to(array, shape).ravel() for array in inputs]
        # Equal columns are computed once.
        known: dict[Any, Any] = {}
        results = []
        for numbers in zip(*spread, strict=True):
            key = tuple(map(id, numbers))
            if key not in known:
                known[key] = self.one(primitive, params, *numbers)
            results.append(known[key])
        return _array(shape, results)

    def one(self, primitive: Any, params: Any, *numbers: Any) -> Any:
        """An operation on one number of each argument; constants are computed while tracing."""
        if all(map(_is_constant, numbers)):
            with jax.ensure_compile_time_eval():
                return np.asarray(primitive.bind(*map(jnp.asarray, numbers), **params))[()]
        if primitive.name == "select_n" and _is_constant(numbers[0]):
            return numbers[1 + int(numbers[0])]
        return primitive.bind(*map(self.vector, numbers), **params)

    def _broadcast_in_dim(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        value, shape = inputs[0], params["shape"]
        if isinstance(value, Slots):
            if shape != (self.slots,):
                raise NotImplementedError("a column in two dimensions")
            return value
        places = [1] * len(shape)
        for axis, size in zip(params["broadcast_dimensions"], value.shape, strict=True):
            places[axis] = size
        return np.broadcast_to(value.reshape(places), shape)

    def _reshape(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        return inputs[0] if isinstance(inputs[0], Slots) else inputs[0].reshape(aval.shape)

    _squeeze = _expand_dims = _reshape

    def _copy(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        return inputs[0]

    def _concatenate(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        return np.concatenate(inputs, params["dimension"])

    def _stack(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        return np.stack(inputs, params["axis"])

    def _split(self, inputs: list[Value], params: Any, aval: Any) -> list[Value]:
        return list(np.split(inputs[0], np.cumsum(params["sizes"])[:-1], axis=params["axis"]))

    def _iota(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        if aval.shape == (self.slots,):
            return Slots(self.numbers_of_slots().astype(aval.dtype))
        return _constant(np.arange(aval.shape[0], dtype=aval.dtype))

    def _slice(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        (value,), starts = inputs, params["start_indices"]
        if isinstance(value, Slots):
            if aval.shape != (1,):
                raise NotImplementedError("some slots of a column")
            return _array((1,), [self.taken(value, np.int32(starts[0]))])
        steps = params["strides"] or (1,) * value.ndim
        return value[tuple(map(slice, starts, params["limit_indices"], steps))]

    def taken(self, column: Slots, index: Any) -> Any:
        """The numbers in one slot, (block,)."""
        array = column.array
        here = self.numbers_of_slots() == self.vector(index)[:, None]
        # Sums of integers keep all bits.
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        bits = lax.bitcast_convert_type(array, jnp.int32) if floating else array.astype(jnp.int32)
        bits = jnp.sum(jnp.where(here, bits, 0), axis=1)
        return lax.bitcast_convert_type(bits, jnp.float32) if floating else bits.astype(array.dtype)

    def _dynamic_slice(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        value, *starts = inputs
        if isinstance(value, Slots):
            if aval.shape != (1,):
                raise NotImplementedError("some slots of a column")
            return _array((1,), [self.taken(value, starts[0][()])])
        (start,) = starts
        if value.shape == aval.shape:
            return value
        if not _is_constant(start[()]) or value.ndim != 1:
            raise NotImplementedError("a slice that is not constant")
        return value[int(start[()]) : int(start[()]) + aval.shape[0]]

    def _dynamic_update_slice(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        value, update, start = inputs
        if isinstance(value, Slots):
            here = self.numbers_of_slots() == self.vector(start[()])[:, None]
            return Slots(jnp.where(here, self.column(update), value.array))
        if value.shape == update.shape:
            return update
        raise NotImplementedError("an update of a part")

    def _argmin(self, inputs: list[Value], params: Any, aval: Any) -> Value:
        (value,) = inputs
        if not isinstance(value, Slots):
            return _constant(np.zeros(aval.shape, aval.dtype))
        least = jnp.min(value.array, axis=1)[:, None]
        places = jnp.where(value.array == least, self.numbers_of_slots(), self.slots)
        return _array((), [jnp.min(places, axis=1).astype(aval.dtype)])

    def _reduce(self, value: Value, params: Any, primitive: Any, reduce: Any) -> Value:
        if isinstance(value, Slots):
            array = value.array
            if array.dtype == jnp.bool_:
                return _array((), [reduce(array.astype(jnp.int32), axis=1) > 0])
            return _array((), [reduce(array, axis=1)])
        axes = tuple(params["axes"])
        kept = [axis for axis in range(value.ndim) if axis not in axes]
        shape = [value.shape[axis] for axis in kept]
        rows = value.transpose(*kept, *axes).reshape(math.prod(shape), -1)
        operation = functools.partial(self.one, primitive, {})
        return _array(shape, [functools.reduce(operation, row) for row in rows])

    def _scan(self, inputs: list[Value], params: Any, aval: Any) -> list[Value]:
        """A loop in the kernel; its carry is in registers. Without stacked outputs."""
        consts, carry = params["num_consts"], params["num_carry"]
        body, xs = params["jaxpr"], inputs[consts + carry :]
        if params["reverse"] or len(body.jaxpr.outvars) > carry:
            raise NotImplementedError("a loop with stacked outputs")
        first = inputs[consts : consts + carry]
        avals = [variable.aval for variable in body.jaxpr.outvars]

        def turn(index: Any, flat: Any) -> Any:
            now = [self.row(array, index) for array in xs]
            values = [*inputs[:consts], *self.unflat(flat, avals), *now]
            return self.flat(self.run(body.jaxpr, body.consts, values), avals)

        return self.unflat(lax.fori_loop(0, params["length"], turn, self.flat(first, avals)), avals)

    def row(self, array: np.ndarray, index: Any) -> np.ndarray:
        """`array[index]` for an index that is the same for all environments."""
        columns = array.reshape(len(array), -1).T
        chosen = []
        for column in columns:
            number = self.vector(column[0])
            for row, other in enumerate(column[1:], 1):
                number = jnp.where(self.vector(index) == row, self.vector(other), number)
            chosen.append(number)
        return _array(array.shape[1:], chosen)

    def _while(self, inputs: list[Value], params: Any, aval: Any) -> list[Value]:
        """A loop in the kernel, until the last environment of the block is done."""
        cond, body = params["cond_jaxpr"], params["body_jaxpr"]
        first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        avals = [variable.aval for variable in body.jaxpr.outvars]

        def goes_on(flat: Any) -> Any:
            values = [*inputs[:first], *self.unflat(flat, avals)]
            return self.vector(self.run(cond.jaxpr, cond.consts, values)[0][()])

        def turn(flat: Any) -> Any:
            on = goes_on(flat)
            values = [*inputs[first:second], *self.unflat(flat, avals)]
            after = self.flat(self.run(body.jaxpr, body.consts, values), avals)
            wide = jnp.broadcast_to(on[:, None], (self.block, self.slots))
            return [
                jnp.where(wide if new.ndim == 2 else on, new, old)
                for new, old in zip(after, flat, strict=True)
            ]

        def any_goes_on(flat: Any) -> Any:
            return jnp.max(goes_on(flat).astype(jnp.int32)) > 0

        return self.unflat(lax.while_loop(any_goes_on, turn, self.flat(inputs[second:], avals)), avals)

    def flat(self, values: Sequence[Value], avals: Sequence[Any]) -> list[Any]:
        """The carry of a loop."""
        arrays = []
        for value, aval in zip(values, avals, strict=True):
            if aval.shape == (self.slots,):
                arrays.append(self.column(value).astype(aval.dtype))
            else:
                arrays += [self.vector(number).astype(aval.dtype) for number in value.ravel()]
        return arrays

    def unflat(self, arrays: Sequence[Any], avals: Sequence[Any]) -> list[Value]:
        values: list[Value] = []
        arrays = list(arrays)
        for aval in avals:
            if aval.shape == (self.slots,):
                values.append(Slots(arrays.pop(0)))
            else:
                values.append(_array(aval.shape, [arrays.pop(0) for _ in range(math.prod(aval.shape))]))
        return values


UNSUPPORTED = ("cond", "sort", "scatter", "gather", "cumsum", "dot_general")
INLINED = ("pjit", "jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint")
REDUCTIONS: dict[str, Any] = {
    "reduce_sum": (lax.add_p, jnp.sum),
    "reduce_min": (lax.min_p, jnp.min),
    "reduce_max": (lax.max_p, jnp.max),
    "reduce_or": (lax.or_p, jnp.max),
}
