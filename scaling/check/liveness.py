"""Bytes of a function's intermediate arrays at their peak, read off its jaxpr; nothing is compiled.

The jaxpr is walked in its order. An array is there from the equation that makes it to its last use,
and is none at all where XLA computes it inside the loop of whoever uses it. The rules for that are
those seen in XLA's CPU compiler (fusion, transposed operands, library reductions). What is left out
is the little that the allocator loses between arrays. `scaling/check/memory.py` applies it to the
train step.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax.extend import core

# fmt: off
_CHEAP = {  # computed again for every user, rather than stored, if it reads one array
    "abs", "add", "add_any", "and", "broadcast_in_dim", "ceil", "clamp", "concatenate",
    "convert_element_type", "copy", "dynamic_slice", "eq", "floor", "gather", "ge", "gt",
    "integer_pow", "iota", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "nextafter",
    "not", "or", "pad", "rev", "round", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "slice", "split", "square", "sub", "transpose", "xor",
}
_COSTLY = {  # computed once
    "atan2", "cbrt", "cos", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "lgamma", "log", "log1p", "logistic", "pow", "rem", "rsqrt", "sin", "sqrt", "tan", "tanh",
}
_REDUCTIONS = {
    "argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod",
    "reduce_sum", "reduce_xor",
}
_VIEWS = {"expand_dims", "name", "reduce_precision", "reshape", "sharding_constraint", "squeeze"}
_FREE = {"broadcast_in_dim", "iota"}  # read nothing, or next to nothing
# Their result takes the place of an operand that nobody uses afterwards.
_IN_PLACE = ("scatter", "dynamic_update_slice")
# Their jaxpr is no program to enter here: a loop, or how two elements are combined.
_CLOSED = ("scan", "while", "scatter", "reduce", "select_and_scatter", "sort")
# fmt: on
_ELEMENTWISE = _CHEAP | _COSTLY

Array = int  # the number of an array of a `_Program`


@dataclass
class _Step:
    """One equation."""

    name: str
    inputs: list[Array]
    outputs: list[Array]
    body: tuple[core.Jaxpr, bool, int | None, int] | None = None  # of a loop: what `_buffers` takes


@dataclass
class _Program:
    """A jaxpr without calls and views, as arrays by number and steps between them."""

    wide: bool
    bytes: list[int] = field(default_factory=list)
    steps: list[_Step] = field(default_factory=list)
    made: dict[Any, list[Array]] = field(default_factory=dict)  # by what
    transposed: dict[Any, Array] = field(default_factory=dict)  # (array, its order of axes) -> copy

    def array(self, aval: Any) -> Array:
        """A new one."""
        self.bytes.append(_bytes(aval, self.wide))
        return len(self.bytes) - 1

    def add(self, jaxpr: core.Jaxpr, env: dict[Any, Array]) -> list[Array]:
        """The steps of `jaxpr`, whose inputs are in `env`; gives its outputs."""

        def read(atom: Any) -> Array:
            if isinstance(atom, core.Literal):
                return self._once((str(atom.val), str(atom.aval)), [atom])[0]
            return env[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(v) for v in eqn.invars]
            inner = _inner(eqn)
            if inner is not None:
                if eqn.primitive.name == "cond":
                    inputs = inputs[1:]
                inside = dict(zip(inner.invars, inputs, strict=True))
                inside |= {v: self.array(v.aval) for v in inner.constvars}
                outputs = self.add(inner, inside)
            elif _is_view(eqn, self.wide):
                outputs = inputs[:1]
            else:
                name, known = eqn.primitive.name, len(self.bytes)
                # A loop is a program of its own, and compared with no other.
                alike = self.wide and name not in ("scan", "while")
                same = str(sorted(eqn.params.items())) if alike else known
                outputs = self._once((name, *inputs, same), eqn.outvars)
                if len(self.bytes) > known:
                    self.steps += self._steps(eqn, inputs, outputs)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def _once(self, key: Any, results: list[Any]) -> list[Array]:
        """New arrays for `results`, or those of the same key. A CPU's compiler drops the barriers
        of remat and then sees that it computes the same twice; there, remat saves in loops alone.
        """
        if key not in self.made:
            self.made[key] = [self.array(v.aval) for v in results]
        return self.made[key]

    def _steps(self, eqn: Any, inputs: list[Array], outputs: list[Array]) -> Iterable[_Step]:
        name, params = eqn.primitive.name, eqn.params
        if name == "optimization_barrier":  # of each array by itself
            return [_Step(name, [i], [o]) for i, o in zip(inputs, outputs, strict=True)]
        body = None
        if name == "scan":
            sliced = len(inputs) - params["num_consts"] - params["num_carry"]
            body = (params["jaxpr"].jaxpr, self.wide, params["num_carry"], sliced)
        elif name == "while":
            body = (params["body_jaxpr"].jaxpr, self.wide, None, 0)
        elif name == "dot_general":
            inputs = [self._operand(eqn, inputs[0]), *inputs[1:]]
        elif name == "conv_general_dilated":
            inputs = self._convolved(eqn, inputs)
        return [_Step(name, inputs, outputs, body)]

    def _operand(self, eqn: Any, first: Array) -> Array:
        """The first operand of a matmul, transposed if the sum is not over its last axes."""
        contracted, rank = eqn.params["dimension_numbers"][0][0], eqn.invars[0].aval.ndim
        if tuple(contracted) == tuple(range(rank - len(contracted), rank)):
            return first
        order = sorted(range(rank), key=lambda axis: axis in contracted)
        return self._copy(first, tuple(order), "transposed")

    def _convolved(self, eqn: Any, inputs: list[Array]) -> list[Array]:
        """The operands of a convolution, each transposed if its axes are not as the library takes
        them: batch, space, channels; of the kernel space, inputs, outputs. For the gradient of the
        kernel, which sums over the batch, both are.
        """
        dims = eqn.params["dimension_numbers"]
        (batch, channels, *space), (outs, ins, *taps) = dims.lhs_spec, dims.rhs_spec
        orders = [(batch, *space, channels), (*taps, ins, outs)]
        pairs = zip(inputs, orders, strict=True)
        return [a if [*o] == sorted(o) else self._copy(a, o, "transpose") for a, o in pairs]

    def _copy(self, array: Array, order: tuple[int, ...], name: str) -> Array:
        """`array` with its axes in this order, written as soon as it is there, and once."""
        if (array, order) not in self.transposed:
            self.bytes.append(self.bytes[array])
            copy = self.transposed[array, order] = len(self.bytes) - 1
            makers = (k for k, step in enumerate(self.steps) if array in step.outputs)
            self.steps.insert(next(makers, -1) + 1, _Step(name, [array], [copy]))
        return self.transposed[array, order]


def peak_bytes(closed: core.ClosedJaxpr, wide: bool = False) -> float:
    """Bytes of the intermediate arrays of a traced function (`jax.make_jaxpr`) at their peak.

    Its arguments and results are not counted: results take the place of donated arguments.

    Args:
      wide: bfloat16 takes 4 bytes, as on a CPU, which computes in float32.
    """
    buffers, _ = _buffers(closed.jaxpr, wide, results=False)
    # Those that begin at a moment are there together with those that end at it.
    changes = [(b.begin, 0, b.bytes) for b in buffers] + [(b.end, 1, -b.bytes) for b in buffers]
    return max(itertools.accumulate(change for _, _, change in sorted(changes)), default=0)


@dataclass(eq=False)
class _Buffer:
    """Bytes of memory for one array, or several one after the other."""

    bytes: int
    begin: float
    end: float  # the last moment that it is in use


def _buffers(
    jaxpr: core.Jaxpr,
    wide: bool,
    carried: int | None = None,
    sliced: int = 0,
    results: bool = True,
) -> tuple[list[_Buffer], int]:
    """What a program needs, and its length: its k-th step is at time k.

    Args:
      carried: how many of the results a loop hands to its next turn; the others leave the body as
        soon as they are made, into the array over all turns. None: all.
      sliced: how many of the arguments, the last ones, are this turn's slice of an array; XLA cuts
        them out when the turn begins, where it does not do so inside their users.
      results: whether results count.
    """
    program = _Program(wide)
    arguments = {v: program.array(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars)}
    for v in jaxpr.invars[len(jaxpr.invars) - sliced :]:
        stacked, arguments[v] = arguments[v], program.array(v.aval)
        program.steps.append(_Step("dynamic_slice", [stacked], [arguments[v]]))
    outputs = program.add(jaxpr, arguments)
    kept = set(outputs[:carried])
    stored, last = _lifetimes(program, kept, set(outputs) - kept)
    size, found = program.bytes, []
    holds: dict[Array, _Buffer] = {}
    for now, step in enumerate(program.steps):
        if step.body is not None:  # its time is between this step's and the next
            inside, length = _buffers(*step.body)
            for buffer in inside:
                begin, end = (now + t / (length + 1) for t in (buffer.begin, buffer.end))
                found.append(_Buffer(buffer.bytes, begin, end))
        dying = []
        if step.name in _ELEMENTWISE or step.name.startswith(_IN_PLACE):
            dying = [holds[a] for a in step.inputs if a in holds and last[a] == now]
        for array in step.outputs:
            if not stored[array] or not size[array] or (array in kept and not results):
                continue
            reusable = (b for b in dying if b.bytes == size[array] and b.end == now)
            buffer = next(reusable, None) or _Buffer(size[array], now, now)
            if buffer not in dying:
                found.append(buffer)
            holds[array] = buffer
            end = max(now, last[array])
            # What a loop reads is there in all of its turns.
            loop = end < len(program.steps) and program.steps[end].body is not None
            buffer.end = end + 1 - 1e-6 if loop else end
    return found, len(program.steps)


def _lifetimes(
    program: _Program, kept: set[Array], written: set[Array]
) -> tuple[dict[Array, bool], dict[Array, int]]:
    """Of every array that a step makes: whether it is stored, and the step of its last use.

    `kept` are there at the end. The users of an array come after it, so the walk is backwards.
    """
    steps = program.steps
    users: dict[Array, list[int]] = {}
    for k, step in enumerate(steps):
        for array in set(step.inputs):
            users.setdefault(array, []).append(k)
    stored: dict[Array, bool] = {}
    last: dict[Array, int] = {}
    reduced: set[Array] = set()  # computed inside a reduction

    def absorbs(user: _Step, step: _Step) -> bool:
        """Whether what `step` makes can be computed inside `user`. A reduction is a library's: it
        computes its operand, but not what led to that.
        """
        if user.name not in _ELEMENTWISE and user.name not in _REDUCTIONS:
            return False
        return step.name in _FREE or not reduced.intersection(user.outputs)

    for k in range(len(steps) - 1, -1, -1):
        step = steps[k]
        for array in step.outputs:
            using = users.get(array, [])
            # A user that is itself not stored reads when its own users do.
            reads = [last[o] for u in using for o in steps[u].outputs if not stored[o]]
            last[array] = len(steps) if array in kept else max([k, *using, *reads])
            if array in kept:
                stored[array] = True
            elif step.name not in _ELEMENTWISE:
                stored[array] = bool(using) or array in written
            else:
                large = [a for a in step.inputs if program.bytes[a] >= program.bytes[array] / 2]
                again = step.name in _CHEAP and len(large) <= 1
                inside = all(absorbs(steps[u], step) for u in using)
                stored[array] = not (inside and (len(using) <= 1 or again))
            if not stored[array] and any(steps[u].name in _REDUCTIONS for u in using):
                reduced.add(array)
    return stored, last


def _inner(eqn: Any) -> core.Jaxpr | None:
    """The program that an equation calls once: of jit, remat, custom derivatives, a branch."""
    name, params = eqn.primitive.name, eqn.params
    if name == "cond":  # the longest branch
        return max((b.jaxpr for b in params["branches"]), key=lambda jaxpr: len(jaxpr.eqns))
    if not name.startswith(_CLOSED):
        for value in params.values():
            if isinstance(value, core.ClosedJaxpr):
                return value.jaxpr
            if isinstance(value, core.Jaxpr):
                return value
    return None


def _is_view(eqn: Any, wide: bool) -> bool:
    """Whether the result is the first operand under another shape or name."""
    name = eqn.primitive.name
    if name in ("broadcast_in_dim", "convert_element_type"):
        before, after = eqn.invars[0].aval, eqn.outvars[0].aval
        same = name == "broadcast_in_dim" or before.dtype == after.dtype
        return same and _bytes(before, wide) == _bytes(after, wide)
    return name in _VIEWS


def _bytes(aval: Any, wide: bool) -> int:
    dtype = getattr(aval, "dtype", None)
    size = 4 if wide and dtype == jnp.bfloat16 else getattr(dtype, "itemsize", 0)
    return math.prod(aval.shape) * size
