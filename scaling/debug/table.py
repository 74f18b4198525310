"""The table of a step: what every module gave and got back, what every parameter is and becomes.

Takes an `Instant`; gives rows of statistics, and their text: the default output of
`launch.py debug`. What is not finite is counted, and left out of the other statistics.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from scaling.debug.instant import Instant
from scaling.debug.step import by_name, look

Array = jax.Array


@dataclass(frozen=True)
class Statistics:
    """Of one array."""

    shape: tuple[int, ...]
    dtype: str
    mean: float  # of the finite entries, as the next two
    rms: float
    largest: float  # absolute
    zeros: float  # share of the entries
    non_finite: float  # share of the entries


@dataclass(frozen=True)
class Row:
    """One line: what of which module or parameter."""

    name: str
    what: str  # output | gradient | parameter | update
    of: Statistics


@dataclass(frozen=True)
class Table:
    """The step of an instant."""

    metrics: Mapping[str, float]  # as the step gives them
    modules: tuple[Row, ...]  # an output and its gradient, in the order in which the calls ended
    params: tuple[Row, ...]  # a parameter, its gradient and its update

    @property
    def finite(self) -> bool:
        """Whether nothing in it is NaN or infinite."""
        rows = (*self.modules, *self.params)
        return all(map(math.isfinite, self.metrics.values())) and not any(
            row.of.non_finite for row in rows
        )


def statistics(x: Array | np.ndarray) -> Statistics:
    """Of one array; in float64, on the host."""
    values = np.asarray(x)
    wide = values.astype(np.float64).ravel()
    fine = wide[np.isfinite(wide)]
    size = max(wide.size, 1)
    with np.errstate(over="ignore"):  # squares of float64 from 1e154 on
        numbers = (fine.mean(), np.sqrt(np.mean(fine**2)), np.abs(fine).max()) if fine.size else ()
    mean, rms, largest = map(float, numbers or (np.nan,) * 3)
    zeros, bad = float((wide == 0).sum()) / size, (wide.size - fine.size) / size
    return Statistics(values.shape, values.dtype.name, mean, rms, largest, zeros, bad)


def of(instant: Instant) -> Table:
    """The step of `instant`, compiled."""
    split = by_name(instant)
    with jax.debug_nans(False), jax.debug_infs(False):
        looked = instant.here(jax.jit(look(instant)))(instant.state, instant.batch)
    modules = [
        row
        for (name, output), of_output in zip(
            looked.outputs.items(), looked.of_outputs.arrays, strict=True
        )
        for row in (
            Row(name, "output", statistics(output)),
            Row(name, "gradient", statistics(of_output)),
        )
    ]
    trees = {
        "parameter": split(instant.state.params),
        "gradient": split(looked.gradient),
        "update": split(looked.change),
    }
    params = [
        Row(name, what, statistics(tree[name]))
        for name in sorted(trees["parameter"], key=_by_layer)
        for what, tree in trees.items()
    ]
    metrics = {name: float(value) for name, value in looked.metrics.items()}
    return Table(metrics, tuple(modules), tuple(params))


def _by_layer(name: str) -> list[tuple[bool, int, str]]:
    """Layers as numbers, before names."""
    return [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in name.split(".")]


_HEAD = ("shape", "dtype", "mean", "rms", "largest", "zeros", "non-finite")


def cells(of: Statistics) -> tuple[str, ...]:
    """The statistics as the table shows them, in the order of its head."""
    shape = "x".join(map(str, of.shape)) or "scalar"
    numbers = ("-" if x != x else f"{x:.2e}" for x in (of.mean, of.rms, of.largest))
    shares = (f"{share:.2%}" if share else "-" for share in (of.zeros, of.non_finite))
    return (shape, of.dtype, *numbers, *shares)


def text(rows: Iterable[Row], only: str | None = None) -> str:
    """Aligned lines, a head first; of the rows whose name contains `only`."""
    lines: list[tuple[str, ...]] = [("", "", *_HEAD)]
    last = None
    for row in rows:
        if only is None or only in row.name:
            lines.append(("" if row.name == last else row.name, row.what, *cells(row.of)))
            last = row.name
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 4 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
