"""The first operation of a step whose result is not finite, and that reaches its results.

The step is run one operation at a time, forward pass, backward pass and update. An *event* is an
operation that makes what is not finite out of what is:

- NaN, where no input holds one (infinity - infinity and 0 * infinity are such);
- an infinity by arithmetic, where no input holds one (log of 0, 1 / 0, an overflow).

What moves or picks numbers makes none: the -inf of a mask is a constant, and no event. Every value
carries the events that its NaNs and infinities come from; of those that the loss, the gradients or
the new state still carry at the end, the first is the fault. A log of 0 that a `where` discards is
therefore not taken for it. Called by `launch.py debug`.
"""

import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.debug.backward import own_lines
from scaling.debug.instant import Instant
from scaling.debug.interpreter import Operation, Value, evaluate, shown
from scaling.debug.modules import named, place
from scaling.debug.step import loss_of, update_of
from scaling.debug.table import Statistics, cells, statistics

# fmt: off
_MOVES = {
    "broadcast_in_dim", "concatenate", "copy", "copy_p", "device_put", "dynamic_slice",
    "dynamic_update_slice", "expand_dims", "gather", "iota", "max", "min", "name", "neg",
    "optimization_barrier", "pad", "reduce_max", "reduce_min", "reshape", "rev", "select_n",
    "sharding_constraint", "slice", "sort", "split", "squeeze", "stop_gradient", "transpose",
}
# fmt: on


@dataclass(frozen=True)
class Event:
    """An operation whose result is not finite though its inputs are."""

    number: int  # in the order of the program
    operation: Operation
    inputs: tuple[Statistics, ...]
    output: Statistics
    what: str  # "NaN" | "infinity"

    @property
    def module(self) -> str:
        """Where it stands: the name of a module, with the scopes within it."""
        return place(self.operation.scope)[0] or "outside every module"

    @property
    def backward(self) -> bool:
        """Whether it is in the backward pass."""
        return place(self.operation.scope)[1]


@dataclass(frozen=True)
class Hunt:
    """What was found."""

    fault: Event | None  # the first event that a result carries
    results: tuple[str, ...]  # what is not finite in the end, by name
    given: tuple[str, ...]  # what was not finite before the step, and reaches the results
    harmless: int  # events that no result carries


def hunt(instant: Instant) -> Hunt:
    """Run loss and gradients of `instant` operation by operation; where they are finite, its update
    as well, which makes as many operations again.
    """
    loss, update = loss_of(instant), update_of(instant)

    def differentiated(state: Any, batch: Any) -> Any:
        with named():
            (value, sums), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        return {"loss": value, "gradient": gradient, "metrics": sums}

    def updated(state: Any, batch: Any) -> Any:
        with named():
            after, metrics = update(state, batch)
        return {"state": after, "metrics": metrics}

    found = instant.here(first_fault)(differentiated, instant.state, instant.batch)
    if found.results:
        return found
    return instant.here(first_fault)(updated, instant.state, instant.batch)


def first_fault(function: Callable[..., Any], *args: Any) -> Hunt:
    """The same of any function of trees of arrays."""
    with own_lines():
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    events: list[Event] = []

    def apply(operation: Operation, inputs: list[Value]) -> list[Value]:
        arrays = [value.array for value in inputs]
        results = operation.run(arrays)
        bad = [_bad(result) for result in results]
        if not any(bad):
            return [Value(result) for result in results]
        origins = frozenset[int]().union(*(value.origins for value in inputs))
        what = _made(operation, bad, [_bad(array) for array in arrays])
        if what is not None:
            number = len(given) + len(events)
            of_inputs = tuple(map(statistics, arrays))
            output = statistics(results[next(i for i, b in enumerate(bad) if b)])
            events.append(Event(number, operation, of_inputs, output, what))
            origins |= {number}
        return [
            Value(result, origins if b else frozenset())
            for result, b in zip(results, bad, strict=True)
        ]

    leaves = jax.tree_util.tree_leaves_with_path(args)
    given = [_named(path) for path, leaf in leaves if _bad(leaf)]
    values = [
        Value(leaf, frozenset({given.index(_named(path))}) if _bad(leaf) else frozenset())
        for path, leaf in leaves
    ]
    with jax.debug_nans(False), jax.debug_infs(False):
        out = evaluate(program, values, apply)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    results = [_named(path) for path, value in zip(paths, out, strict=True) if value.origins]
    results.sort(key=lambda name: name.count("."))  # the loss before the gradients
    reached = sorted(frozenset[int]().union(*(value.origins for value in out)))
    faults = [events[number - len(given)] for number in reached if number >= len(given)]
    return Hunt(
        fault=faults[0] if faults else None,
        results=tuple(results),
        given=tuple(given[number] for number in reached if number < len(given)),
        harmless=len(events) - len(faults),
    )


def _named(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _bad(array: Any) -> str:
    """ "" for what is finite; "NaN" where there is one, else "infinity"."""
    dtype = getattr(array, "dtype", np.dtype(type(array)))
    if not jnp.issubdtype(dtype, jnp.inexact):
        return ""
    values = np.asarray(array)
    if np.isfinite(values).all():
        return ""
    return "NaN" if np.isnan(values).any() else "infinity"


def _made(operation: Operation, results: Sequence[str], inputs: Sequence[str]) -> str | None:
    """What the operation made that its inputs do not hold; None: nothing."""
    if "NaN" in results and "NaN" not in inputs:
        return "NaN"
    makes = operation.name not in _MOVES
    return "infinity" if makes and "infinity" in results and not any(inputs) else None


def text(found: Hunt) -> str:
    """For a person."""
    if found.fault is None and not found.given:
        more = f" ({found.harmless} on the way, that no result carries)" if found.harmless else ""
        return f"every result of the step is finite{more}"
    lines = [f"not finite in the end: {_some(found.results)}"]
    if found.given:
        lines.append(
            f"not finite already before this step: {_some(found.given)}; look into an earlier "
            "--step"
        )
    if found.fault is not None:
        lines += _event(found.fault)
    if found.harmless:
        lines.append(f"({found.harmless} others made on the way come later, or to nothing)")
    return "\n".join(lines)


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _event(event: Event) -> list[str]:
    operation = event.operation
    which = "backward" if event.backward else "forward"
    at = "".join(f", {turn}" for turn in operation.turns)
    lines = [
        f"the first {event.what}: {operation.name} in {event.module}, {which} pass{at}",
    ]
    line = operation.line()
    if line is not None:
        file, number, function = line
        lines.append(f"  {shown(file)}:{number}, in {function}")
        lines.append(f"    {linecache.getline(file, number).strip()}")
    for i, of in enumerate(event.inputs):
        lines.append(f"  input {i}: {_described(of)}")
    return [*lines, f"  result:  {_described(event.output)}"]


def _described(of: Statistics) -> str:
    shape, dtype, mean, rms, largest, zeros, bad = cells(of)
    return (
        f"{shape} {dtype}, mean {mean}, rms {rms}, largest {largest}, zeros {zeros}, "
        f"non-finite {bad}"
    )
