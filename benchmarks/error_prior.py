"""What published tables say of errors of extrapolation: the numbers of `forecast.Prior`, refitted.

    python -m benchmarks.error_prior [--clones=DIR] [--halves] [--against=rows.csv]

Every table of `real_coverage.py` is cut as there. For each cut the accounts of its rows and of
their inner cuts are found once; then the probability that there is no discrepancy, the power of the
evidence, the scale of errors and its degrees of freedom are chosen on a grid by the mean log score
of the runs above (cuts of a table, tables of a family and families alike). With `--halves` they are
chosen on one half of the families and judged on the other, and the other way around. `--against`
is what `real_coverage.py --out` wrote: then the interval scores of its methods stand beside those
of the prior, over the same cuts (means over cuts, geometric means over tables).
"""

import argparse
import itertools
import pathlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr
from scipy.stats import t as student

from benchmarks.published import Published, at_hand, public
from benchmarks.real_coverage import FEWEST, interval_scores, levels
from scaling.errors import UserError
from scaling.laws import LAWS, Options, fit
from scaling.laws.curve import Curve
from scaling.laws.discrepancy import Explainer, Rows, Sizes, Told
from scaling.laws.forecast import FEWEST as FEWEST_SPARE
from scaling.laws.forecast import PUBLISHED, Prior, mix, off, shares, toward, ways_of
from scaling.laws.problem import Problem

GRID = {
    "alone": (0.1, 0.2, 0.5),
    "temper": (0.5, 1.0),
    "scale": (0.8, 0.95, 1.1, 1.3),
    "dof": (2.0, 4.0, 8.0),
}


@dataclass(frozen=True)
class Cut:
    """What the accounts of the rows below a cut say of those above."""

    evidence: np.ndarray  # [accounts]
    told: Told
    there: Rows  # above


@dataclass(frozen=True)
class Case:
    """A cut of a table, with the inner cuts of the rows below it."""

    table: str
    family: str
    cut: float  # level
    outer: Cut
    inner: tuple[tuple[Cut, ...], ...]  # along each column, and along all at once
    toward: np.ndarray  # [rows above, directions]: in which of these they lie


def cases(table: Published, sizes: Sizes, by: str = "flops") -> list[Case]:
    """All cuts of a table."""
    rows, law = table.rows, LAWS[table.law]
    rows = rows.astype(dict.fromkeys(("params", "tokens", "flops", "loss"), float))
    out = []
    for level in levels(rows[by].to_numpy()):
        low = rows[by] < level * (1 - 1e-6)
        if low.sum() < FEWEST:
            continue
        try:
            options = Options(bootstrap=0, fixed=table.fixed)
            found = fit(rows[low], law, options, checks=False)
        except UserError:
            continue
        parts = [_rows(part, law.columns) for part in (rows[low], rows[~low])]
        below, above = parts
        problem = Problem(
            law, found.free, found.fixed, below.columns, below.target, below.weight
        )  # fmt: skip
        explainer = Explainer(Curve(problem), below, found.params, sizes)
        ways = ways_of(below.place, len(found.free) + FEWEST_SPARE)
        whole = np.ones(len(below.target), bool)
        first, *others = explainer.explain([whole, *(m for masks in ways for m in masks)])
        outer = Cut(first.evidence, explainer.tell(first, above), above)
        known, inner = iter(others), []
        for masks in ways:
            cuts = []
            for used in masks:
                there, told = below.those(~used), next(known)
                cuts.append(Cut(told.evidence, explainer.tell(told, there), there))
            inner.append(tuple(cuts))
        way = toward(above.place, below.place)
        out.append(Case(table.name, table.family, level, outer, tuple(inner), way))
    return out


def _rows(part: pd.DataFrame, columns: Sequence[str]) -> Rows:
    values = {c: part[c].to_numpy(float) for c in columns}
    place = np.log(np.stack(list(values.values()), axis=1))
    target = np.log(part.loss.to_numpy(float))
    return Rows(place, values, target, np.ones(len(target)))


@dataclass(frozen=True)
class Mixture:
    """What a prior makes of the runs above a cut: a mixture of Student's distributions."""

    share: np.ndarray  # [accounts]
    centre: np.ndarray  # [accounts, rows], and
    spread: np.ndarray
    worth: np.ndarray  # [rows]: degrees of freedom

    @classmethod
    def of(cls, case: Case, alone: float, temper: float, scale: float, dof: float) -> "Mixture":
        """That of a cut."""
        prior = Prior(alone, temper, scale, dof)

        def error(cut: Cut) -> float:
            return off(mix(cut.told, shares(cut.evidence, prior)), cut.there, prior)

        worths = np.array([dof + len(cuts) for cuts in case.inner])
        squares = np.array([dof * scale**2 + sum(map(error, cuts)) for cuts in case.inner]) / worths
        worth, size = case.toward @ worths, np.sqrt(case.toward @ squares)
        told, share = case.outer.told, shares(case.outer.evidence, prior)
        middle = share @ told.mean
        spread = size * np.sqrt(told.parameters + told.form + told.noise)
        return cls(share, middle + size * (told.mean - middle), spread, worth)

    def place(self, at: np.ndarray) -> np.ndarray:
        """Its distribution function at [rows]."""
        return self.share @ stdtr(self.worth, (at - self.centre) / self.spread)

    def end(self, share: float) -> np.ndarray:
        """Where so much of it lies below [rows], by bisection."""
        far = 50 * self.spread.max(axis=0)
        low, high = self.centre.min(axis=0) - far, self.centre.max(axis=0) + far
        for _ in range(40):
            half = (low + high) / 2
            below = self.place(half) < share
            low, high = np.where(below, half, low), np.where(below, high, half)
        return high


def judged(case: Case, *values: float) -> tuple[float, float, float]:
    """Mean log score of the runs above a cut, and the share in 90 % and in 50 % intervals."""
    made, target = Mixture.of(case, *values), case.outer.there.target
    apart = (target - made.centre) / made.spread
    density = made.share @ (student.pdf(apart, made.worth) / made.spread)
    place = made.place(target)
    return (
        float(np.log(np.maximum(density, 1e-6)).mean()),
        float(np.mean((place > 0.05) & (place < 0.95))),
        float(np.mean((place > 0.25) & (place < 0.75))),
    )


def interval_score(case: Case, *values: float) -> float:
    """Mean of the 90 % intervals, in % of the loss, as in `real_coverage.py`."""
    made, target = Mixture.of(case, *values), case.outer.there.target
    low, high = (made.end(share) - target for share in (0.05, 0.95))
    return float(np.mean(interval_scores(low, high)))


def scores_of(found: list[Case]) -> dict[tuple[float, ...], np.ndarray]:
    """Point of the grid -> what each case comes to there [cases, 3], as `judged`."""
    points = itertools.product(*GRID.values())
    return {values: np.array([judged(case, *values) for case in found]) for values in points}


def over(found: list[Case], scores: np.ndarray, own: Collection[str]) -> np.ndarray:
    """Scores and shares [3] of some families: means over cuts, then tables, then families."""
    families: dict[str, dict[str, list]] = {}
    for case, score in zip(found, scores, strict=True):
        if case.family in own:
            tables = families.setdefault(case.family, {})
            tables.setdefault(case.table, []).append(score)
    return np.mean(
        [np.mean([np.mean(cuts, axis=0) for cuts in tables.values()], axis=0)
         for tables in families.values()], axis=0,
    )  # fmt: skip


def beside(
    found: list[Case], values: tuple[float, ...], own: Collection[str], rows: pd.DataFrame
) -> str:
    """Interval scores of some families, and those of other methods over the same cuts."""
    used = [(c.table, c.cut, interval_score(c, *values)) for c in found if c.family in own]
    ours = pd.DataFrame(used, columns=["table", "cut", "prior"])
    others = rows.assign(score=interval_scores(rows.low, rows.high))
    others = others[others.refused.isna()].groupby(["table", "cut", "method"]).score.mean()
    both = ours.merge(others.unstack().reset_index(), on=["table", "cut"]).dropna()
    means = both.groupby("table").mean().drop(columns="cut")
    middle = np.exp(np.log(means).mean())
    named = ", ".join(f"{n} {v:.2f} ({1 - middle.prior / v:+.0%})" for n, v in middle.items())
    return f"  interval score over {len(means)} tables, {len(both)} cuts: {named}"


def told(found: list[Case], halves: bool, rows: pd.DataFrame | None = None) -> str:
    """The choice, and how it is judged."""
    scores = scores_of(found)
    families = sorted({case.family for case in found})

    def best(own: Collection[str]) -> tuple[float, ...]:
        return max(scores, key=lambda values: over(found, scores[values], own)[0])

    chosen = best(families)
    score, wide, half = over(found, scores[chosen], families)
    lines = [f"all: {', '.join(GRID)} = {chosen}; log score {score:.3f}, held {wide:.0%} and "
             f"{half:.0%}"]  # fmt: skip
    if rows is not None:
        lines.append(beside(found, chosen, families, rows))
    for own in (families[::2], families[1::2]) if halves else ():
        chosen, rest = best(own), [f for f in families if f not in own]
        score, wide, half = over(found, scores[chosen], rest)
        other = over(found, scores[best(rest)], rest)[0]
        lines.append(
            f"fitted to {', '.join(own)}: {chosen}; on the others log score {score:.3f} (their own "
            f"best {other:.3f}), held {wide:.0%} and {half:.0%}"
        )
        if rows is not None:
            lines.append(beside(found, chosen, rest, rows))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the choice, and how it is judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clones", type=pathlib.Path)
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--against", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    rows = pd.read_csv(asked.against) if asked.against else None
    tables = at_hand() + (public(asked.clones) if asked.clones else [])
    found = [case for table in tables for case in cases(table, PUBLISHED.sizes)]
    print(told(found, asked.halves, rows))


if __name__ == "__main__":
    main()
