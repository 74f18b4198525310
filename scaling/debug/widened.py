"""A traced program in float64: the same operations, every float of it widened.

Takes a jaxpr that was traced for float32 or bfloat16 and gives what it would give without rounding:
casts to narrow types, accumulators and constants are widened too, so that a model that names its
types can be computed in float64. Called by `gradients.py` and `parting.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from scaling.debug.interpreter import Operation, Value, evaluate

_BITS = {"bitcast_convert_type"}  # what they give depends on the width of what they are given


def wide(x: Any) -> Any:
    """An array, or a tree of them, with its floats in float64."""

    def one(x: Any) -> Any:
        return jnp.asarray(x, jnp.float64) if _is_float(getattr(x, "dtype", type(x))) else x

    return jax.tree.map(one, x)


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def run(program: core.ClosedJaxpr, leaves: Sequence[Any]) -> list[Any]:
    """The results of `program` on the leaves of its arguments, in float64; call it inside
    `jax.enable_x64(True)`.
    """
    consts = [wide(const) for const in program.consts]
    program = core.ClosedJaxpr(program.jaxpr, consts)
    values = [Value(wide(leaf)) for leaf in leaves]
    return [value.array for value in evaluate(program, values, _apply)]


def _apply(operation: Operation, inputs: list[Value]) -> list[Value]:
    arrays = [wide(value.array) for value in inputs]
    if operation.name in _BITS:
        avals: list[Any] = [var.aval for var in operation.eqn.invars]
        narrow = [jnp.asarray(x, aval.dtype) for x, aval in zip(arrays, avals, strict=True)]
        return [Value(wide(x)) for x in operation.run(narrow)]
    params = {name: _widened(value) for name, value in operation.eqn.params.items()}
    return [Value(x) for x in operation.run(arrays, params)]


def _widened(parameter: Any) -> Any:
    """A parameter of an operation: a type of floats as float64, and how two elements are combined
    (a scatter's or a reduction's) as it is for them.
    """
    if isinstance(parameter, np.dtype | type) and _names_a_float(parameter):
        return np.dtype("float64")
    if isinstance(parameter, core.Jaxpr) and not parameter.constvars:
        return _retraced(core.ClosedJaxpr(parameter, ())).jaxpr
    return _retraced(parameter) if isinstance(parameter, core.ClosedJaxpr) else parameter


def _retraced(program: core.ClosedJaxpr) -> core.ClosedJaxpr:
    avals: list[Any] = [var.aval for var in program.jaxpr.invars]
    given = [wide(jnp.zeros(aval.shape, aval.dtype)) for aval in avals]
    return jax.make_jaxpr(lambda *leaves: run(program, leaves))(*given)


def _names_a_float(kind: Any) -> bool:
    try:
        return _is_float(kind) and kind is not float
    except TypeError:
        return False


def function(traced: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """`traced`, as it is for the shapes of `args`, in float64."""
    program, shapes = jax.make_jaxpr(traced, return_shape=True)(*args)
    structure = jax.tree.structure(shapes)

    def called(*args: Any) -> Any:
        with jax.enable_x64(True):
            return jax.tree.unflatten(structure, run(program, jax.tree.leaves(args)))

    return called
