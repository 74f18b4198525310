"""How often intervals hold runs that others published, beyond the runs that were fitted.

    python -m benchmarks.real_coverage [--clones=DIR] [--by flops] [--methods ...] [--cuts 12]
        [--out=rows.csv] [--expected=500]

Every table is cut at each of its levels that leave twelve runs below (at most so many cuts, evenly
spaced in rows); a law is fitted below and every run above is predicted. Prints, by table and
method, how many of the runs 90 % and 50 % intervals hold, their width, the error of the prediction,
and the interval score (Gneiting & Raftery 2007, J. Am. Statist. Assoc. 102, 359, eq. 43) of the
90 % interval, relative to the loss: its width, and 20 times the distance of a run that it misses.
Means over the runs of a cut, then over the cuts of a table; over tables the geometric mean of
scores. Beside the tables of tests/data/published are those of `published.public`, when `--clones`
is a folder with clones of their repositories. `--expected` draws so many times what each table
would hold if the engine were exactly right (expected_coverage.py), beside what it holds.
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from benchmarks import expected_coverage
from benchmarks.published import Published, at_hand, public
from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.automatic import choose
from scaling.laws.outcomes import Prediction
from scaling.laws.stacking import Stack, weights

FEWEST, CUTS = 12, 12
AVERAGED = ("chinchilla", "chinchilla_tied", "kaplan")  # beside the table's own law


class Predicts(Protocol):
    """A fit, or several."""

    def predict(self, at: pd.DataFrame, *, level: float | None = None) -> Prediction: ...


def alone(**options: Any) -> Callable[[pd.DataFrame, str, Options], Predicts]:
    """The table's law, fitted with these options."""

    def made(rows: pd.DataFrame, law: str, asked: Options) -> Predicts:
        return fit(rows, law, replace(asked, **options), checks=False)

    return made


def average(rows: pd.DataFrame, law: str, asked: Options) -> Predicts:
    """Laws of the same columns, weighed by backtests within the rows."""
    laws = AVERAGED if law in AVERAGED else (law,)
    share = weights(choose(rows, asked, laws=laws, by="flops").tests)
    kept = [n for n in share if share[n] > 0]
    fits = [fit(rows, n, asked, checks=False) for n in kept]
    return Stack(tuple(fits), tuple(share[n] for n in kept))


METHODS: dict[str, Callable[[pd.DataFrame, str, Options], Predicts]] = {
    "forecast": alone(),
    "bootstrap": alone(forecast=False),
    "residual bootstrap": alone(forecast=False, method="residual"),
    "average": average,
}


def levels(values: np.ndarray, most: int = CUTS) -> np.ndarray:
    """Where a column is cut [cuts]: at values that differ by more than rounding."""
    found = np.unique(values)
    found = found[np.diff(np.log(found), prepend=-np.inf) > 0.02]
    if len(found) > most:
        shares = np.linspace(0, 1, most + 2)[1:-1]
        found = np.unique(np.quantile(values, shares, method="higher"))
    return found


def scored(
    table: Published,
    by: str,
    method: Callable[[pd.DataFrame, str, Options], Predicts],
    draws: int,
    most: int = CUTS,
) -> pd.DataFrame:
    """A row for each run above each cut of a table: cut, n (runs below), factor (how far above the
    largest below), error, low, high, low_50, high_50 (logarithms of predicted over measured).
    """
    rows = table.rows.astype(dict.fromkeys(("params", "tokens", "flops", "loss"), float))
    parts = []
    for level in levels(rows[by].to_numpy(), most):
        below = rows[rows[by] < level * (1 - 1e-6)]
        above = rows[rows[by] >= level * (1 - 1e-6)]
        if len(below) < FEWEST:
            continue
        asked = Options(bootstrap=draws, fixed=table.fixed)
        try:
            found = method(below, table.law, asked)
            wide, half = (found.predict(above, level=share) for share in (0.9, 0.5))
        except UserError as e:
            parts.append(pd.DataFrame({"cut": [level], "n": len(below), "refused": str(e)}))
            continue
        actual = np.log(above.loss.to_numpy())
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(pd.DataFrame({
                "cut": level, "n": len(below), "refused": None,
                "factor": above[by].to_numpy() / below[by].max(),
                "error": np.log(wide.mean) - actual,
                "low": np.log(wide.low) - actual, "high": np.log(wide.high) - actual,
                "low_50": np.log(half.low) - actual, "high_50": np.log(half.high) - actual,
            }))  # fmt: skip
    out = pd.concat(parts, ignore_index=True)
    return out.assign(table=table.name, family=table.family, by=by)


def interval_scores(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of 90 % intervals whose ends are logarithms of predicted over measured, in % of the loss."""
    outside = np.maximum(low, 0) + np.maximum(-high, 0)
    return 100 * (high - low + 20 * outside)


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Runs, share that each interval holds, score, width and error (in %) of each table."""
    rows = rows[rows.refused.isna()].copy()
    rows["held_90"] = (rows.low <= 0) & (rows.high >= 0)
    rows["held_50"] = (rows.low_50 <= 0) & (rows.high_50 >= 0)
    rows["width"] = 100 * (rows.high - rows.low)
    rows["score"] = interval_scores(rows.low, rows.high)
    rows["off"] = 100 * rows.error.abs()
    cuts = rows.groupby(["table", "cut"]).agg(
        score=("score", "mean"), width=("width", "median"), off=("off", "median")
    )
    out = rows.groupby("table").agg(
        cuts=("cut", "nunique"), runs=("error", "size"), held_90=("held_90", "mean"),
        held_50=("held_50", "mean"),
    )  # fmt: skip
    return out.join(cuts.groupby("table").mean())


def summary(found: pd.DataFrame) -> str:
    """One line on all tables."""
    runs = found.runs / found.runs.sum()
    score = float(np.exp(np.log(found.score).mean()))
    return (
        f"{len(found)} tables, {found.runs.sum()} runs: 90 % intervals hold "
        f"{100 * (found.held_90 * runs).sum():.0f} % of the runs (by table "
        f"{100 * found.held_90.mean():.0f} %, least {100 * found.held_90.min():.0f} %), 50 % "
        f"intervals {100 * (found.held_50 * runs).sum():.0f} % ({100 * found.held_50.mean():.0f} "
        f"%); score {score:.2f}, error {float(np.exp(np.log(found.off).mean())):.2f} %"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clones", type=pathlib.Path)
    parser.add_argument("--by", nargs="*", default=["flops"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS)[:3])
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--bootstrap", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--expected", type=int, default=0, metavar="DRAWS")
    asked = parser.parse_args(arguments)
    tables = at_hand() + (public(asked.clones) if asked.clones else [])
    kept = []
    for by in asked.by:
        for method in asked.methods:
            began = time.monotonic()
            used, draws = METHODS[method], asked.bootstrap
            done = [scored(t, by, used, draws, asked.cuts) for t in tables]
            rows = pd.concat(done, ignore_index=True)
            kept.append(rows.assign(method=method))
            found = judged(rows)
            refused = rows.refused.notna().sum()
            print(f"\ncuts by {by}, {method} ({time.monotonic() - began:.0f} s)")
            print(found.round({"held_90": 2, "held_50": 2, "score": 1, "width": 1, "off": 2})
                  .to_string())  # fmt: skip
            print(summary(found), f"; {refused} cuts refused" if refused else "", flush=True)
            if asked.expected and method == "forecast":
                drawn = expected_coverage.expected(tables, by, rows, asked.expected)
                print(expected_coverage.told(drawn, found.held_90), flush=True)
            if asked.out:
                pd.concat(kept).to_csv(asked.out, index=False)


if __name__ == "__main__":
    main()
