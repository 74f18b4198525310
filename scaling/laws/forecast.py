"""The error of one more run: parameters, noise, and a form that may be wrong, weighed by what the
table shows and by how its own backtests came out.

Takes the rows of a fit; gives a `Forecast`, which goes to JSON and back with the fit. Where a fit
predicts, its accounts (discrepancy.py) are mixed by their evidence, and the spread is scaled by the
errors of inner backtests: the table's smaller runs predict its larger ones. Called by `fitting.py`
and by `result.py`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.laws.curve import Curve
from scaling.laws.discrepancy import Accounts, Explainer, Rows, Sizes, Told
from scaling.laws.law import GROWING, Law
from scaling.laws.problem import Problem, room_for
from scaling.laws.uncertainty import CASES_FROM

MOST_ROWS = 512  # of more, so many are looked at
CUTS = 8  # inner backtests along all columns at once
ALONG = 4  # along one column
FEWEST = 3  # rows more than parameters, below a cut
SLIGHT = 1e-3  # share below which an account is dropped
WORST = 9.0  # squared standardized error at which one row counts no more


@dataclass(frozen=True)
class Prior:
    """What published tables say of errors of extrapolation (docs/intervals.md)."""

    alone: float = 0.2  # probability that there is no discrepancy
    temper: float = 1.0  # power of the evidence: runs share budgets, seeds and mistakes
    scale: float = 0.95  # of errors, in those that an account expects
    dof: float = 2.0  # how many cuts of a table that knowledge is worth
    sizes: Sizes = field(default_factory=Sizes)


PUBLISHED = Prior()


@dataclass(frozen=True)
class Mixed:
    """Predictions of all accounts together, in the fit's space; arrays [rows]."""

    mean: np.ndarray
    parameters: np.ndarray  # variances
    form: np.ndarray
    noise: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Of one more run [rows]."""
        return self.parameters + self.form + self.noise


def mix(told: Told, share: np.ndarray) -> Mixed:
    """Accounts mixed by their shares: doubt between them is doubt about the form."""
    mean = share @ told.mean
    return Mixed(
        mean, share @ told.parameters, share @ (told.form + (told.mean - mean) ** 2),
        share @ told.noise,
    )  # fmt: skip


@dataclass(frozen=True)
class Forecast:
    """What a fit knows of the errors of its predictions."""

    law: Law
    free: tuple[str, ...]
    given: Mapping[str, float]
    space: str
    params: Mapping[str, float]
    placed: tuple[str, ...]  # raw columns whose logarithms are places
    rows: Rows
    accounts: Accounts  # the first has no discrepancy
    share: np.ndarray  # of each account
    # Of errors, by the backtests along each column, and along all at once [placed + 1].
    scales: np.ndarray
    dofs: np.ndarray  # cuts that say so, with those of the prior [placed + 1]
    tests: int  # inner backtests
    sizes: Sizes
    tail: np.ndarray | None  # residuals of the law alone, in standard deviations; None: too few

    @functools.cached_property
    def _explainer(self) -> Explainer:
        problem = Problem(
            self.law, self.free, self.given, self.rows.columns, self.rows.target,
            self.rows.weight, self.space,
        )  # fmt: skip
        return Explainer(Curve(problem), self.rows, self.params, self.sizes)

    def told(self, raw: Mapping[str, np.ndarray], columns: Mapping[str, Any]) -> Told:
        """What the accounts say at rows: raw columns [rows], and as the law reads them."""
        at = self._rows(raw, columns)
        with room_for(len(self.rows.target)):
            return self._explainer.tell(self.accounts, at)

    def _rows(self, raw: Mapping[str, np.ndarray], columns: Mapping[str, Any]) -> Rows:
        place = place_of(raw, self.placed)
        return Rows(place, columns, np.zeros(len(place)), np.ones(len(place)))

    def covary(self, raw: Mapping[str, np.ndarray], columns: Mapping[str, Any]) -> np.ndarray:
        """Covariances of runs at rows by each account [accounts, rows, rows], before they are
        scaled by the backtests.
        """
        at = self._rows(raw, columns)
        with room_for(len(self.rows.target)):
            return self._explainer.covary(self.accounts, at)

    def mixed(self, raw: Mapping[str, np.ndarray], columns: Mapping[str, Any]) -> Mixed:
        """The accounts together at rows, variances scaled by the backtests."""
        whole = mix(self.told(raw, columns), self.share)
        scale = self.sureness(raw)[0] ** 2
        return Mixed(whole.mean, scale * whole.parameters, scale * whole.form, scale * whole.noise)

    def sureness(self, raw: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The scale of errors at rows, and the cuts that say so [rows] each: of the direction in
        which they lie beyond the runs.
        """
        place = place_of(raw, self.placed)
        share = toward(place, self.rows.place)
        return np.sqrt(share @ self.scales**2), share @ self.dofs

    def foreseen(
        self, raw: Mapping[str, np.ndarray], columns: Mapping[str, Any]
    ) -> tuple[Explainer, Accounts, np.ndarray, Rows]:
        """The accounts once more, their shares, and these rows as they see them: with functions of
        the discrepancy at these rows too, so that a run at one of them says something of its
        neighbours.
        """
        place = place_of(raw, self.placed)
        none, one = np.zeros(len(place)), np.ones(len(place))
        at, rows = Rows(place, columns, none, one), self.rows
        added = {k: np.concatenate([v, columns[k]]) for k, v in rows.columns.items()}
        both = Rows(
            np.concatenate([rows.place, place]), added,
            np.concatenate([rows.target, none + rows.target.mean()]),
            np.concatenate([rows.weight, one]),
        )  # fmt: skip
        explainer = Explainer(self._explainer.curve, both, self.params, self.sizes)
        used = np.arange(len(both.target)) < len(rows.target)
        (accounts,) = explainer.explain([used])
        return explainer, accounts, shares(accounts.evidence, PUBLISHED), at

    def beyond(self, times: float) -> dict[str, np.ndarray]:
        """A place that many times beyond the largest run, each column that grows grown alike, the
        others as they are there: raw column -> [1].
        """
        grows = np.array([n in GROWING for n in self.placed])
        place = self.rows.place
        at = int(np.argmax(place[:, grows].sum(axis=1) if grows.any() else place.sum(axis=1)))
        largest = place[at] + np.log(times) * grows / max(int(grows.sum()), 1)
        return {n: np.exp(largest[i : i + 1]) for i, n in enumerate(self.placed)}

    def weigh(self, samples: np.ndarray) -> np.ndarray:
        """Probability of each draw of the parameters [draws], of draws [draws, free] on the
        natural scale: those that no published law comes near count little.
        """
        known, off = self.sizes.known, np.zeros(len(samples))
        log = self.space == "log"
        least = float((np.exp(self.rows.target) if log else self.rows.target).min())
        for i, n in enumerate(self.free):
            expected = known.of(self.law, n, least)
            if expected is not None:
                drawn = np.log(np.maximum(samples[:, i], 1e-9))
                off += ((drawn - np.log(expected[0])) / expected[1]) ** 2
        weight = np.exp(-0.5 * (off - off.min()))
        return weight / weight.sum()

    def to_values(self) -> dict[str, Any]:
        """As plain values, for JSON; without what the fit has too."""
        rows = self.rows
        return {
            "placed": self.placed, "scales": self.scales.tolist(), "dofs": self.dofs.tolist(),
            "tests": self.tests, "share": self.share.tolist(),
            "tail": None if self.tail is None else self.tail.tolist(),
            "rows": {"place": rows.place.tolist(), "target": rows.target.tolist(),
                     "weight": rows.weight.tolist(),
                     "columns": {k: np.asarray(v).tolist() for k, v in rows.columns.items()}},
            "accounts": {k: v.tolist() if isinstance(v, np.ndarray) else float(v)
                         for k, v in vars(self.accounts).items()},
        }  # fmt: skip

    @classmethod
    def from_values(
        cls, values: Mapping[str, Any], law: Law, free: tuple[str, ...],
        given: Mapping[str, float], space: str, params: Mapping[str, float],
    ) -> "Forecast":  # fmt: skip
        """The inverse of `to_values`."""
        kept = values["rows"]
        rows = Rows(
            np.array(kept["place"]), {k: np.array(v) for k, v in kept["columns"].items()},
            np.array(kept["target"]), np.array(kept["weight"]),
        )  # fmt: skip
        arrays: dict[str, Any] = {
            k: np.array(v) if isinstance(v, list) else v for k, v in values["accounts"].items()
        }
        accounts = Accounts(**arrays)
        return cls(
            law, free, given, space, params, tuple(values["placed"]), rows, accounts,
            np.array(values["share"]), np.array(values["scales"]), np.array(values["dofs"]),
            values["tests"], PUBLISHED.sizes,
            None if values["tail"] is None else np.array(values["tail"]),
        )  # fmt: skip


def forecast(
    problem: Problem,
    raw: Mapping[str, np.ndarray],
    params: Mapping[str, float],
    prior: Prior = PUBLISHED,
) -> Forecast | None:
    """The errors of a fit's predictions; None where there are too few rows, or no column whose
    logarithm says how far apart runs are.

    raw: the law's columns as the table has them [rows]; params: fitted, natural scale.
    """
    labels = problem.law.labels
    placed = tuple(
        n for n, v in raw.items()
        if n not in labels and np.ndim(v) == 1 and (v > 0).all() and np.ptp(v) > 0
    )  # fmt: skip
    needed = len(problem.free) + FEWEST
    if not placed or problem.law.prepare or len(problem.target) < needed:
        return None
    place = place_of(raw, placed)
    order = np.argsort(place.sum(axis=1), kind="stable")
    kept = np.sort(order[:: -(-len(order) // MOST_ROWS)])
    rows = Rows(place, problem.columns, problem.target, problem.weight).those(kept)
    part = Problem(
        problem.law, problem.free, problem.given, rows.columns, rows.target, rows.weight,
        problem.space,
    )  # fmt: skip
    explainer = Explainer(Curve(part), rows, params, prior.sizes)
    ways = ways_of(rows.place, needed)
    cuts = [mask for masks in ways for mask in masks]
    with room_for(len(rows.target)):
        accounts, *inner = explainer.explain([np.ones(len(rows.target), bool), *cuts])
        errors = [
            _tested(explainer, known, ~used, prior) for known, used in zip(inner, cuts, strict=True)
        ]
    share = shares(accounts.evidence, prior)
    counted = share > SLIGHT
    counted[0] = True
    accounts, share = accounts.those(counted), share[counted] / share[counted].sum()
    spare = len(rows.target) - len(problem.free)
    tail = None
    if spare >= CASES_FROM:
        tail = accounts.residual[0] * (len(rows.target) / spare) ** 0.5
    accounts = replace(accounts, residual=accounts.residual[:, :0])
    ends = np.cumsum([len(masks) for masks in ways])
    found = [errors[end - len(masks) : end] for end, masks in zip(ends, ways, strict=True)]
    dofs = np.array([prior.dof + len(one) for one in found])
    scales = np.array([prior.dof * prior.scale**2 + sum(one) for one in found]) / dofs
    return Forecast(
        problem.law, problem.free, problem.given, problem.space, params, placed, rows, accounts,
        share, np.sqrt(scales), dofs, len(errors), prior.sizes, tail,
    )  # fmt: skip


def shares(evidence: np.ndarray, prior: Prior) -> np.ndarray:
    """Of each account, by its evidence [accounts]."""
    before = np.full(len(evidence), (1 - prior.alone) / (len(evidence) - 1))
    before[0] = prior.alone
    share = before * np.exp(prior.temper * (evidence - evidence.max()))
    return share / share.sum()


def place_of(raw: Mapping[str, np.ndarray], placed: Sequence[str]) -> np.ndarray:
    """Logarithms of the columns that say where runs are [rows, columns]."""
    return np.log(np.stack([raw[n] for n in placed], axis=1))


def ways_of(place: np.ndarray, needed: int) -> list[list[np.ndarray]]:
    """Cuts along each column of places, and last along all at once (of one column: along it)."""
    columns = range(place.shape[1] if place.shape[1] > 1 else 0)
    alone = [cuts_of(place[:, i], needed, ALONG) for i in columns]
    return [*alone, cuts_of(place.sum(axis=1), needed)]


def cuts_of(size: np.ndarray, needed: int, most: int = CUTS) -> list[np.ndarray]:
    """Rows below each of some cuts [rows], bool: the runs of smaller size (a logarithm)."""
    ordered = np.sort(size)
    levels = np.unique(ordered[needed:])
    # Runs of one budget differ by rounding at most.
    levels = levels[np.diff(levels, prepend=ordered[0]) > 0.02] if len(levels) else levels
    if len(levels) > most:
        levels = levels[np.linspace(0, len(levels) - 1, most).round().astype(int)]
    masks = [size < level - 1e-9 for level in levels]
    return [m for m in masks if needed <= m.sum() < len(size)]


def toward(place: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """In which directions places [rows, columns] lie beyond the runs: shares of each column alone,
    and of all at once [rows, columns + 1]; of one column there is one direction.
    """
    if place.shape[1] == 1:
        return np.ones((len(place), 1))
    beyond = np.maximum(place - runs.max(axis=0), 0.0)
    alike = beyond.min(axis=1, keepdims=True)
    whole = place.sum(axis=1) - runs.sum(axis=1).max()
    rest = np.maximum(whole - (beyond - alike).sum(axis=1), 1e-3)
    share = np.concatenate([beyond - alike, rest[:, None]], axis=1)
    return share / share.sum(axis=1, keepdims=True)


def _tested(explainer: Explainer, known: Accounts, above: np.ndarray, prior: Prior) -> float:
    """Mean squared error of the rows above a cut, in the variances that were expected."""
    there = explainer.rows.those(above)
    return off(mix(explainer.tell(known, there), shares(known.evidence, prior)), there, prior)


def off(told: Mixed, there: Rows, prior: Prior) -> float:
    """Mean squared error of rows, in the variances that were expected of them."""
    error = (there.target - told.mean) ** 2 / told.variance
    return float(np.minimum(error, WORST * prior.scale**2).mean())
