"""A policy as an ONNX graph, translated from its jaxpr: features, networks and averages included.

The graph takes one observation and gives one action, float32 (components,). Equations of constants
only are computed here and become constants of the graph.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from jaxdodge.fields import ConfigError
from jaxdodge.files import atomic_write

# What onnxruntime since 1.18 reads.
OPSET, IR_VERSION = 18, 10
SAME_NAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "max": "Max",
    "min": "Min",
    "abs": "Abs",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "exp": "Exp",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "lt": "Less",
    "gt": "Greater",
    "le": "LessOrEqual",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
}
INLINED = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call")


def onnx_model(policy: Callable[[Any], jax.Array], observation: Any) -> onnx.ModelProto:
    """The graph of a function of one observation.

    Args:
        policy: from an observation to an action.
        observation: an example: an array, or a dictionary of arrays, whose names become those of
            the inputs; an array's input is `observation`.

    Raises:
        ConfigError: the policy uses an operation that is not translated.
    """
    named = observation if isinstance(observation, dict) else {"observation": observation}
    jaxpr = jax.make_jaxpr(policy)(observation)
    graph = _Graph()
    # Leaves of a dictionary are in the order of their sorted names.
    names = sorted(named)
    outputs = graph.inline(jaxpr.jaxpr, jaxpr.consts, names)
    graph.add("Identity", [outputs[0]], "action")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [_value(name, named[name].dtype, named[name].shape) for name in names],
            [_value("action", np.float32, jaxpr.out_avals[0].shape)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jaxdodge",
    )
    onnx.checker.check_model(model)
    return model


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph whole or not at all; raises OSError."""
    atomic_write(path, model.SerializeToString())


def runtime(model: onnx.ModelProto) -> Callable[[Any], np.ndarray]:
    """The graph in onnxruntime, as a function of observations with a leading axis (n,)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def act(observations: Any) -> np.ndarray:
        named = observations if isinstance(observations, dict) else {"observation": observations}
        count = len(next(iter(named.values())))
        rows = ({name: array[row] for name, array in named.items()} for row in range(count))
        return np.stack([session.run(["action"], row)[0] for row in rows])

    return act


def _value(name: str, dtype: Any, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


class _Graph:
    """Nodes and constants so far. A value is the name of a tensor, or a constant array."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def add(self, operation: str, inputs: Sequence[Any], name: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output; arrays among inputs become constants."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        output = name or self._name()
        self.nodes.append(helper.make_node(operation, names, [output], **attributes))
        return output

    def _constant(self, array: Any) -> str:
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def inline(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Translate all equations of a jaxpr; returns the values of its outputs."""
        values = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(variable: Any) -> Any:
            return np.asarray(variable.val) if isinstance(variable, Literal) else values[variable]

        for equation in jaxpr.eqns:
            read_in = [read(variable) for variable in equation.invars]
            values |= dict(zip(equation.outvars, self._translate(equation, read_in), strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _translate(self, equation: Any, values: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        if name in INLINED:
            inner = params.get("jaxpr") or params["call_jaxpr"]
            return self.inline(inner.jaxpr, inner.consts, values)
        if not any(isinstance(value, str) for value in values):
            result = equation.primitive.bind(*map(jax.numpy.asarray, values), **params)
            return [
                np.asarray(each) for each in (result if equation.primitive.multiple_results else [result])
            ]
        if name == "split":
            ends = np.cumsum([0, *map(int, params["sizes"])])
            axis = [params["axis"]]
            return [
                self.add("Slice", [values[0], *map(_int64, ([start], [end], axis))])
                for start, end in itertools.pairwise(ends)
            ]
        if name in SAME_NAME:
            return [self.add(SAME_NAME[name], values)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise ConfigError(
                f"format: onnx has no translation of the operation {name}; expected another format"
            )
        return [method(equation, values, params)]

    def _convert_element_type(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Cast", values, to=helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"])))

    def _reshape(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Reshape", [values[0], _int64(equation.outvars[0].aval.shape)])

    _squeeze = _reshape
    _expand_dims = _reshape

    def _broadcast_in_dim(self, equation: Any, values: list[Any], params: Any) -> str:
        shape = np.ones(len(params["shape"]), np.int64)
        shape[list(params["broadcast_dimensions"])] = equation.invars[0].aval.shape
        flat = self.add("Reshape", [values[0], shape])
        return self.add("Expand", [flat, _int64(params["shape"])])

    def _slice(self, equation: Any, values: list[Any], params: Any) -> str:
        starts, axes = params["start_indices"], range(len(params["start_indices"]))
        steps = params["strides"] or [1] * len(starts)
        return self.add("Slice", [values[0], *map(_int64, (starts, params["limit_indices"], axes, steps))])

    def _concatenate(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Concat", values, axis=params["dimension"])

    def _transpose(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Transpose", values, perm=params["permutation"])

    def _pad(self, equation: Any, values: list[Any], params: Any) -> str:
        low, high, inner = np.transpose(params["padding_config"])
        if inner.any() or (low < 0).any() or (high < 0).any():
            raise ConfigError("format: onnx has no translation of this padding; expected another format")
        return self.add("Pad", [values[0], _int64([*low, *high]), values[1]])

    def _dot_general(self, equation: Any, values: list[Any], params: Any) -> str:
        left, right = (len(variable.aval.shape) for variable in equation.invars)
        if params["dimension_numbers"] != (((left - 1,), (0,)), ((), ())) or right > 2:
            raise ConfigError("format: onnx has no translation of this product; expected another format")
        return self.add("MatMul", values)

    def _select_n(self, equation: Any, values: list[Any], params: Any) -> str:
        which, when_false, when_true = values
        return self.add("Where", [which, when_true, when_false])

    def _reduce_sum(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("ReduceSum", [values[0], _int64(params["axes"])], keepdims=0)

    def _reduce_or(self, equation: Any, values: list[Any], params: Any) -> str:
        numbers = self.add("Cast", values, to=TensorProto.INT32)
        largest = self.add("ReduceMax", [numbers, _int64(params["axes"])], keepdims=0)
        return self.add("Cast", [largest], to=TensorProto.BOOL)

    def _ne(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Not", [self.add("Equal", values)])

    def _integer_pow(self, equation: Any, values: list[Any], params: Any) -> str:
        exponent = np.asarray(params["y"], equation.invars[0].aval.dtype)
        return self.add("Mul", values * 2) if params["y"] == 2 else self.add("Pow", [*values, exponent])

    def _square(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Mul", values * 2)

    def _rsqrt(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Reciprocal", [self.add("Sqrt", values)])

    def _rem(self, equation: Any, values: list[Any], params: Any) -> str:
        return self.add("Mod", values, fmod=1)

    def _scatter(self, equation: Any, values: list[Any], params: Any) -> str:
        """`operand.at[constant].set(update)`: one row along the first axis."""
        operand, indices, update = values
        numbers = params["dimension_numbers"]
        rows = numbers.inserted_window_dims == numbers.scatter_dims_to_operand_dims == (0,)
        if not rows or isinstance(indices, str) or np.shape(indices) != (1,):
            raise ConfigError("format: onnx has no translation of this assignment; expected another format")
        row = self.add("Reshape", [update, _int64((1, *equation.invars[2].aval.shape))])
        return self.add("ScatterND", [operand, _int64([indices]), row])


def _int64(numbers: Any) -> np.ndarray:
    return np.asarray(list(numbers) if isinstance(numbers, range) else numbers, np.int64)
