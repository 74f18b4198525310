"""A traced program, run one operation at a time.

Takes a closed jaxpr and its arguments; gives its results. Every operation is handed to a function
of the caller, with where it stands: the module and the source line. Calls, loops and branches are
entered, loops turn by turn, so that the caller meets plain operations alone. `hunt.py` looks at
every result on the way; `widened.py` computes each in float64.
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

Array = jax.Array


@dataclass(frozen=True)
class Value:
    """An array on its way, and the numbers of the events that it comes from (`hunt.py`)."""

    array: Any
    origins: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Operation:
    """One equation of the program, and where it stands."""

    eqn: core.JaxprEqn
    scope: str  # jax's name stack, of the calls around it too
    turns: tuple[str, ...]  # of the loops around it: "turn 3 of 4", the outermost first

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.eqn.primitive.name

    def run(self, arrays: Sequence[Any], params: dict[str, Any] | None = None) -> list[Any]:
        """The results, as jax computes them; `params` in place of the equation's."""
        if self.name == "sharding_constraint":  # nothing to do on one device
            return list(arrays)
        out = self.eqn.primitive.bind(*arrays, **(params or self.eqn.params))
        return list(out) if self.eqn.primitive.multiple_results else [out]

    def line(self) -> tuple[str, int, str] | None:
        """File, line and function of the innermost caller that is no part of a library, or of
        this room.
        """
        traceback = self.eqn.source_info.traceback
        frames: Sequence[Any] = traceback.frames if traceback is not None else ()
        ours = (f for f in frames if not f.file_name.startswith(libraries()))
        found = next((f for f in ours if pathlib.Path(f.file_name).is_file()), None)
        return None if found is None else (found.file_name, found.line_num, found.function_name)


def shown(file: str) -> str:
    """A path as a person names it from where the command runs."""
    here = pathlib.Path.cwd()
    return str(pathlib.Path(file).relative_to(here)) if file.startswith(f"{here}/") else file


@functools.cache
def libraries() -> tuple[str, ...]:
    """Folders whose functions are not where a fault is looked for."""
    import flax
    import jaxlib
    import optax

    packages = (jax, jaxlib, flax, optax, np)
    files = [str(package.__file__) for package in packages] + [__file__]
    return (
        *(f"{pathlib.Path(file).parent}/" for file in files),
        str(pathlib.Path(functools.__file__).parent / "functools.py"),
        "<",
    )


Apply = Callable[[Operation, list[Value]], list[Value]]

# Their jaxpr says how two elements are combined; it is not a program to enter.
_COMBINERS = ("scatter", "reduce", "select_and_scatter", "sort", "arg")


def evaluate(program: core.ClosedJaxpr, values: Sequence[Value], apply: Apply) -> list[Value]:
    """The results of `program` on `values`, each operation computed by `apply`."""
    return _evaluate(program.jaxpr, [Value(c) for c in program.consts], values, apply, "", ())


def _evaluate(
    jaxpr: core.Jaxpr,
    consts: Sequence[Value],
    values: Sequence[Value],
    apply: Apply,
    outer: str,
    turns: tuple[str, ...],
) -> list[Value]:
    known: dict[Any, Value] = {}

    def read(var: Any) -> Value:
        return Value(var.val) if isinstance(var, core.Literal) else known[var]

    known |= zip(jaxpr.constvars, consts, strict=True)
    known |= zip(jaxpr.invars, values, strict=True)
    for eqn in jaxpr.eqns:
        scope = "/".join(filter(None, (outer, str(eqn.source_info.name_stack))))
        inputs = [read(var) for var in eqn.invars]
        results = _equation(Operation(eqn, scope, turns), inputs, apply)
        known |= zip(eqn.outvars, results, strict=True)
    return [read(var) for var in jaxpr.outvars]


def _equation(operation: Operation, inputs: list[Value], apply: Apply) -> list[Value]:
    name, params = operation.name, operation.eqn.params

    def inside(program: Any, values: Sequence[Value], turn: str | None = None) -> list[Value]:
        jaxpr, consts = (program, ()) if isinstance(program, core.Jaxpr) else _open(program)
        turns = operation.turns if turn is None else (*operation.turns, turn)
        return _evaluate(jaxpr, [Value(c) for c in consts], values, apply, operation.scope, turns)

    if name == "scan":
        return _scan(params, inputs, inside)
    if name == "while":
        return _while(params, inputs, inside)
    if name == "cond":
        which, *rest = inputs
        last = len(params["branches"]) - 1
        return inside(params["branches"][min(max(int(which.array), 0), last)], rest)
    if name != "shard_map" and not name.startswith(_COMBINERS):
        inner = next((p for key in _PROGRAMS if (p := params.get(key)) is not None), None)
        if isinstance(inner, core.Jaxpr | core.ClosedJaxpr):
            return inside(inner, inputs)
    return apply(operation, inputs)


_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters of what calls a program


def _open(program: core.ClosedJaxpr) -> tuple[core.Jaxpr, Sequence[Any]]:
    return program.jaxpr, program.consts


Inside = Callable[..., list[Value]]


def _scan(params: dict[str, Any], inputs: list[Value], inside: Inside) -> list[Value]:
    consts, carried = params["num_consts"], params["num_carry"]
    fixed, carry = inputs[:consts], inputs[consts : consts + carried]
    columns, length = inputs[consts + carried :], params["length"]
    order = range(length)
    stacked: list[list[Value]] = []
    for i in reversed(order) if params["reverse"] else order:
        row = [Value(column.array[i], column.origins) for column in columns]
        turn = f"turn {i + 1} of {length}"
        out = inside(params["jaxpr"], [*fixed, *carry, *row], turn)
        carry = out[:carried]
        stacked.append(out[carried:])
    if params["reverse"]:
        stacked.reverse()
    if not stacked:
        avals = [var.aval for var in params["jaxpr"].jaxpr.outvars[carried:]]
        return [*carry, *(Value(jnp.zeros((0, *a.shape), a.dtype)) for a in avals)]
    return [*carry, *map(_stack, zip(*stacked, strict=True))]


def _stack(column: Sequence[Value]) -> Value:
    origins = frozenset[int]().union(*(value.origins for value in column))
    return Value(jnp.stack([value.array for value in column]), origins)


def _while(params: dict[str, Any], inputs: list[Value], inside: Inside) -> list[Value]:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    asked, fixed = inputs[:of_cond], inputs[of_cond : of_cond + of_body]
    carry, turn = inputs[of_cond + of_body :], 0
    while bool(inside(params["cond_jaxpr"], [*asked, *carry])[0].array):
        turn += 1
        carry = inside(params["body_jaxpr"], [*fixed, *carry], f"turn {turn}")
    return carry
