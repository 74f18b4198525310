"""A law as a smooth curve in coordinates in which doubt about it is nearly normal.

Takes a fitted `Problem`; gives the law and its slopes at any rows, and what is known of its
parameters before a table is seen. Positive parameters are logarithms; a scale that the prediction
is linear in is the logarithm of what it adds at the middle of the table, so that scales and
exponents hardly correlate. Called by `discrepancy.py`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.laws.law import Law
from scaling.laws.problem import Problem, pad, padded, predict, rounded

TASKS = 8  # coordinates of one call, at least: fewer take no less time
FLAT = 100.0  # standard deviation of a coordinate of which nothing is known
WIDE = 3.0  # of a logarithm of which little is
LEAST_SHARE = 0.05  # of what is to explain: no term of a law begins smaller


@dataclass(frozen=True)
class Known:
    """What published tables say of laws before a table is seen (docs/intervals.md): logarithms are
    normal, given by their middle on the natural scale and their standard deviation.
    """

    exponent: float = 1 / 3  # of a law with a floor
    exponent_sd: float = 0.4
    floor: float = 0.65  # as a share of the least loss
    floor_sd: float = 0.4
    term_sd: float = 2.0  # what a term adds at the middle of the table

    def of(self, law: Law, name: str, least: float) -> tuple[float, float] | None:
        """Middle and standard deviation of the logarithm of a parameter of which anything is known,
        `least` the least loss of the table.
        """
        if name == law.floor:
            return self.floor * least, self.floor_sd
        p = law[name]
        if law.floor and name in law.exponents and p.link == "identity" and p.low == 0:
            return self.exponent, self.exponent_sd
        return None


@functools.lru_cache(maxsize=64)
def _program(
    law: Law, free: tuple[str, ...], logs: frozenset[str], scales: tuple[str, ...], space: str
) -> Callable[..., Any]:
    """Compiled: coordinates [tasks, free], given, middle, columns -> curves [tasks, rows], slopes
    [tasks, rows, free].
    """
    linear = [p.name for p in law.parameters if p.linear]

    def one(at: Any, given: Any, middle: Any, columns: Any) -> Any:
        values = dict(given)
        for i, name in enumerate(free):
            values[name] = jnp.exp(at[i]) if name in logs else at[i]
        zero = dict.fromkeys(linear, 0.0) if scales else {}
        units = {k: law.predict({**values, **zero, k: 1.0}, middle)[0] for k in scales}
        values |= {k: values[k] / unit for k, unit in units.items()}
        predicted = law.predict(values, columns)
        return jnp.log(predicted) if space == "log" else predicted

    def both(*all_of_it: Any) -> Any:
        return one(*all_of_it), jax.jacfwd(one)(*all_of_it)

    return jax.jit(jax.vmap(both, in_axes=(0, None, None, None)))


class Curve:
    """A law, free parameters and all; its coordinates are arrays [free]."""

    def __init__(self, problem: Problem):
        law, free = problem.law, problem.free
        self.problem = problem
        self.law, self.free, self.space = law, free, problem.space
        self.given = dict(problem.given)
        self.logs = frozenset(n for n in free if law[n].link == "log" or law[n].low >= 0)
        plain = all(np.ndim(v) == 1 and (v > 0).all() for v in problem.columns.values())
        self.middle = {
            k: np.array([np.exp(np.log(v).mean())]) if plain else np.asarray(v)[:1]
            for k, v in problem.columns.items()
        }
        scaled = plain and law.linear_in == "prediction"
        self.scales = tuple(
            n for n in free if scaled and law[n].linear and law[n].link == "log"
        )  # fmt: skip

    def __call__(self, at: np.ndarray, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        """Curves in the fit's space [tasks, rows], and their slopes by the coordinates
        [tasks, rows, free], at coordinates [tasks, free].
        """
        rows, tasks = len(next(iter(columns.values()))), len(at)
        wide = {k: pad(np.asarray(v, float), padded(rows)) for k, v in columns.items()}
        many = pad(np.asarray(at, float), TASKS if tasks <= TASKS else rounded(tasks, 64))
        program = _program(self.law, self.free, self.logs, self.scales, self.space)
        with jax.enable_x64(True):
            curve, slopes = program(many, self.given, self.middle, wide)
        return np.asarray(curve)[:tasks, :rows], np.asarray(slopes)[:tasks, :rows]

    def floor(self, at: np.ndarray) -> np.ndarray:
        """The irreducible part at coordinates [tasks, free]; 0 of a law that has none. [tasks]"""
        name = self.law.floor
        if name in self.free:
            return np.exp(at[:, self.free.index(name)])
        return np.full(len(at), 0.0 if name is None else self.given[name])

    def begin(
        self, params: Mapping[str, float], loss: np.ndarray, known: Known
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates at fitted parameters, moved inside where a term has vanished; and the middle
        and the standard deviation of what is known of each before the table is seen [free] each.

        params: natural scale; loss: [rows], natural scale.
        """
        law, least = self.law, float(loss.min())
        values = dict(params)
        middle, spread = np.zeros(len(self.free)), np.full(len(self.free), WIDE)
        for i, n in enumerate(self.free):
            p = law[n]
            expected = known.of(law, n, least)
            if expected is not None:
                bounds = (LEAST_SHARE * least, 0.98 * least) if n == law.floor else (0.05, 1.5)
                values[n] = float(np.clip(values[n], *bounds))
                middle[i], spread[i] = np.log(expected[0]), expected[1]
            elif n not in self.scales:
                values[n] = max(values[n], 1e-9) if n in self.logs else values[n]
                middle[i] = np.log(values[n]) if n in self.logs else values[n]
                if p.linear:
                    spread[i] = 1.0 if n in law.exponents else FLAT
        at = np.array([np.log(values[n]) if n in self.logs else values[n] for n in self.free])
        floor = values.get(law.floor or "", 0.0)
        # A loss relative to another can be negative; then its spread is what there is to explain.
        typical = float(np.exp(np.log(loss).mean())) if least > 0 else least + float(np.ptp(loss))
        rest = max(typical - floor if least > 0 else typical - least, 1e-3 * abs(least))
        if self.scales:
            whole = self._terms(params)
            for n in self.scales:
                i = self.free.index(n)
                at[i] = np.log(np.clip(whole[n], LEAST_SHARE * rest, 3 * rest))
                middle[i], spread[i] = np.log(rest / len(self.scales)), known.term_sd
        return at, middle, spread

    def _terms(self, values: Mapping[str, float]) -> dict[str, float]:
        """What each scale adds at the middle of the table."""
        plain = {n: 0.0 if self.law[n].linear else values[n] for n in self.free}
        held = [n for n in self.given if n in self.law.names and self.law[n].linear]
        problem = replace(self.problem, given=self.given | dict.fromkeys(held, 0.0))
        alone = np.array([[{**plain, n: values[n]}[k] for k in self.free] for n in self.scales])
        added = predict(problem, problem.coordinates(alone), self.middle)[:, 0]
        return dict(zip(self.scales, added.tolist(), strict=True))
