"""Does anything look ahead? The first module whose output depends on what comes after it.

The forward pass is run on the batch, and on the batch with other tokens behind a position, or in
another document of the same window. Whatever a module gave at positions that must not see them has
to stay as it was. A module leaks if that changed in its output and not in what it was given; of
those that do, the innermost that came first is the fault. Called by `launch.py debug --causality`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from scaling.debug.instant import Instant
from scaling.debug.modules import Call, named
from scaling.debug.step import loss_of
from scaling.errors import UserError

# A sum over other numbers, all of them masked, may be rounded otherwise; relative to the RMS.
_ROUNDING = {"float32": 1e-5, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Leak:
    """A module that passes on what it must not see."""

    module: str
    kind: str  # its class
    changed: str  # what was changed: "tokens after position 15" | "another document"
    position: int  # the first that was not to change and did
    share: float  # of the positions that were not to change
    largest: float  # absolute change, over the RMS of the output


@flax.struct.dataclass
class _Calls:
    """Every module call, in the order in which they ended: arrays given and arrays returned."""

    names: tuple[tuple[str, str], ...] = flax.struct.field(pytree_node=False)
    given: tuple[Any, ...]
    returned: tuple[Any, ...]


def _recorded(function: Callable[..., Any]) -> Callable[..., _Calls]:
    def traced(*args: Any) -> _Calls:
        names, given, returned = [], [], []

        def around(call: Call, run: Callable[[], Any]) -> Any:
            out = run()
            names.append((call.name, type(call.module).__name__))
            given.append(_arrays(call.inputs))
            returned.append(_arrays(out))
            return out

        with named(around):
            function(*args)
        return _Calls(tuple(names), tuple(given), tuple(returned))

    return traced


def _arrays(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype") and leaf.ndim]


def leaks(instant: Instant) -> list[Leak]:
    """The first module that leaks, for each way of changing what it must not see; [] if none does.

    Raises UserError for a batch without `tokens`.
    """
    tokens = instant.batch.get("tokens")
    if tokens is None:
        raise UserError("--causality: the batch has no tokens, which are what is changed")
    forward = _recorded(loss_of(instant))
    half = {name: x[:, : x.shape[1] // 2] for name, x in instant.batch.items()}
    params = instant.state.params
    shapes = instant.here(jax.eval_shape)(forward, params, instant.batch)
    shorter = instant.here(jax.eval_shape)(forward, params, half)
    axes = jax.tree.map(
        lambda a, b: _length_axis(a.shape, b.shape, tokens.shape[1]), shapes, shorter
    )
    run = instant.here(jax.jit(forward))
    before = run(params, instant.batch)
    found = []
    for what, batch, kept in _changes(instant.batch):
        leak = _first(before, run(params, batch), axes, kept, what)
        found += [leak] if leak is not None else []
    return found


def _length_axis(shape: tuple[int, ...], shorter: tuple[int, ...], length: int) -> int:
    """The axis that shrinks with the length and has its size; -1: there is none."""
    found = [
        i for i, (a, b) in enumerate(zip(shape, shorter, strict=True)) if a != b and a == length
    ]
    return found[0] if found else -1


def _changes(
    batch: Mapping[str, jax.Array],
) -> list[tuple[str, dict[str, jax.Array], np.ndarray]]:
    """What is changed, the batch after it, and [B, L]: positions that must not see it."""
    tokens = np.asarray(batch["tokens"])
    length, known = tokens.shape[1], max(2, int(tokens.max()) + 1)
    places = np.arange(length)
    found = []

    def changed(where: np.ndarray) -> dict[str, jax.Array]:
        return {**batch, "tokens": jnp.asarray(np.where(where, (tokens + 1) % known, tokens))}

    for t in sorted({length // 4, length // 2, length - 2} - {length - 1}):
        after = np.broadcast_to(places > t, tokens.shape)
        found.append((f"tokens after position {t}", changed(after), ~after))
    segments = batch.get("segment_ids")
    if segments is not None and len(np.unique(numbers := np.asarray(segments))) > 1:
        first = numbers == numbers[:, :1]
        found.append(("the first document of each window", changed(first), ~first))
    return found


def _first(before: _Calls, after: _Calls, axes: _Calls, kept: np.ndarray, what: str) -> Leak | None:
    for i, (name, kind) in enumerate(before.names):
        given = zip(before.given[i], after.given[i], axes.given[i], strict=True)
        if any(_moved(a, b, axis, kept) is not None for a, b, axis in given):
            continue
        for a, b, axis in zip(before.returned[i], after.returned[i], axes.returned[i], strict=True):
            moved = _moved(a, b, axis, kept)
            if moved is not None:
                return Leak(name, kind, what, *moved)
    return None


def _moved(a: Any, b: Any, axis: int, kept: np.ndarray) -> tuple[int, float, float] | None:
    """First kept position that moved, their share, and by how much; None: none did."""
    if axis < 0 or a.shape[0] != kept.shape[0]:
        return None
    first, second = (np.moveaxis(np.asarray(x, np.float64), axis, 1) for x in (a, b))
    rms = float(np.sqrt(np.mean(first**2))) or 1.0
    change = np.abs(first - second).reshape(*kept.shape, -1).max(axis=-1) / rms
    bad = kept & ~(change <= _ROUNDING.get(str(a.dtype), 0.0))
    if not bad.any():
        return None
    return int(np.where(bad)[1].min()), float(bad.sum() / kept.sum()), float(change[bad].max())


def text(found: list[Leak]) -> str:
    """For a person."""
    if not found:
        return "no module sees what comes after it, or another document"
    return "\n".join(
        f"LEAK in {leak.module} ({leak.kind}): other {leak.changed} change its output at "
        f"{leak.share:.0%} of the positions that must not see them, from position {leak.position} "
        f"on, by up to {leak.largest:.2g} of its RMS, while what it is given there stays the same"
        for leak in found
    )
