"""FLOPs and bytes of any JAX function, read off its jaxpr without running or compiling it.

Scans are multiplied by their trip count, which the compiler's own count leaves out; jit, remat and
custom derivatives are entered. `scaling/costs/counts.py` applies it to the runs of this project.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core

from scaling.costs import convolutions


@dataclass(frozen=True)
class Ledger:
    """FLOPs by class, as the program is written (before the compiler fuses or removes anything).

    The classes follow XLA's cost analysis, whose "flops" are `flops` here: a multiply-add is two,
    an elementwise operation one an element, a reduction one an element it reads; transcendental
    functions are apart from them.
    """

    matmul: float = 0.0
    convolution: float = 0.0
    elementwise: float = 0.0
    reduction: float = 0.0
    transcendental: float = 0.0  # function values, not FLOPs
    bytes: float = 0.0  # operands and results of every operation, as if nothing were fused
    open_loops: int = 0  # while loops, whose body is counted once: their length is not known

    @property
    def flops(self) -> float:
        """All classes but the transcendental."""
        return self.matmul + self.convolution + self.elementwise + self.reduction

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(**{name: count + getattr(other, name) for name, count in vars(self).items()})

    def __mul__(self, times: int) -> "Ledger":
        counts = {name: count * times for name, count in vars(self).items()}
        return Ledger(**counts | {"open_loops": self.open_loops})


Scopes = dict[str, Ledger]  # name of the scope -> what is done directly in it


def ledger(function: Callable[..., Any], *args: Any) -> Ledger:
    """Counts of `function(*args)`; `args` may be shapes (`jax.ShapeDtypeStruct`). Runs nothing."""
    return total(scopes(function, *args).values())


def total(counts: Iterable[Ledger]) -> Ledger:
    """Their sum."""
    return functools.reduce(Ledger.__add__, counts, Ledger())


def scopes(function: Callable[..., Any], *args: Any) -> Scopes:
    """`ledger`, cut by the names under which the program does it.

    A name is JAX's name stack: modules and `jax.named_scope`s, outermost first, inside the
    transformations they were under: "transpose(jvp(Network))/Block/up" is a backward pass.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr, "")


# fmt: off
_TRANSCENDENTAL = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "lgamma", "log", "log1p", "logistic", "pow",
    "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
}
_ELEMENTWISE = {
    "abs", "add", "add_any", "and", "ceil", "clamp", "convert_element_type", "div", "eq", "floor",
    "ge", "gt", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or",
    "reduce_precision", "rem", "round", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "square", "sub", "xor",
}
_REDUCTION = {
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor",
}
# fmt: on
# Their jaxpr says how two elements are combined; it is not a program to enter.
_COMBINERS = ("scatter", "reduce", "select_and_scatter", "sort")


def _count(jaxpr: core.Jaxpr, outer: str) -> Scopes:
    """`outer`: the scope in which the program is called."""
    return _join(_count_equation(eqn, outer) for eqn in jaxpr.eqns)


def _join(parts: Iterable[Scopes]) -> Scopes:
    joined: Scopes = {}
    for part in parts:
        for scope, count in part.items():
            joined[scope] = joined[scope] + count if scope in joined else count
    return joined


def _count_equation(eqn: core.JaxprEqn, outer: str) -> Scopes:
    name, params = eqn.primitive.name, eqn.params
    scope = "/".join(filter(None, (outer, str(eqn.source_info.name_stack))))

    def inside(jaxpr: core.Jaxpr, times: int = 1) -> Scopes:
        return {inner: count * times for inner, count in _count(jaxpr, scope).items()}

    if name == "scan":
        return inside(params["jaxpr"].jaxpr, params["length"])
    if name == "while":
        loop = [inside(params[part].jaxpr) for part in ("body_jaxpr", "cond_jaxpr")]
        return _join([*loop, {scope: Ledger(open_loops=1)}])
    if name == "cond":
        branches = [inside(branch.jaxpr) for branch in params["branches"]]
        if params.get("branches_platforms"):  # forms of the same for different platforms
            return branches[0]
        return max(branches, key=lambda counts: total(counts.values()).flops)
    if name == "shard_map":  # its body is done at each place along the axes that it maps
        sizes = params["mesh"].shape
        axes = params.get("newly_manual_axes") or params.get("manual_axes") or sizes
        return inside(params["jaxpr"], math.prod(sizes[axis] for axis in axes))
    if not name.startswith(_COMBINERS):
        inner = list(_inner(params))
        if inner:
            return _join(map(inside, inner))
    return {scope: _count_operation(eqn)}


def _count_operation(eqn: core.JaxprEqn) -> Ledger:
    name, params = eqn.primitive.name, eqn.params

    def shape(var: Any) -> tuple[int, ...]:
        return var.aval.shape

    moved = sum(_bytes(v.aval) for v in (*eqn.invars, *eqn.outvars))
    out = math.prod(shape(eqn.outvars[0]))
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs = shape(eqn.invars[0])
        return Ledger(matmul=2 * out * math.prod(lhs[i] for i in contracted), bytes=moved)
    if name == "ragged_dot_general":
        dims = params["ragged_dot_dimension_numbers"]
        (contracted, _), _ = dims.dot_dimension_numbers
        lhs, groups = shape(eqn.invars[0]), shape(eqn.invars[2])[-1]
        flops = 2 * out * math.prod(lhs[i] for i in contracted)
        # Each row meets one group's matrix, or adds to one group's result.
        ragged = dims.lhs_ragged_dimensions[0]
        return Ledger(matmul=flops / groups if ragged in contracted else flops, bytes=moved)
    if name == "conv_general_dilated":
        return Ledger(convolution=2 * convolutions.multiply_adds(eqn), bytes=moved)
    if name == "integer_pow":  # by repeated multiplication
        power = abs(params["y"])
        multiplications = power.bit_length() + power.bit_count() - 2
        return Ledger(elementwise=out * multiplications, bytes=moved)
    if name in _TRANSCENDENTAL:
        return Ledger(transcendental=out, bytes=moved)
    if name in _ELEMENTWISE:
        return Ledger(elementwise=out, bytes=moved)
    if name in _REDUCTION:
        return Ledger(reduction=math.prod(shape(eqn.invars[0])), bytes=moved)
    if name == "sort":  # by comparisons
        return Ledger(elementwise=out * math.ceil(math.log2(max(out, 1))), bytes=moved)
    if name.startswith("scatter"):
        return Ledger(elementwise=math.prod(shape(eqn.invars[2])), bytes=moved)
    return Ledger(bytes=moved)


def _inner(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs an equation calls: of jit, remat, custom_jvp, custom_vjp and their like."""
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 0)
