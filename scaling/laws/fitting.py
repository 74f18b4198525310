"""From a table to a fitted law: read the columns, find the minimum, say how well it is known.

`fit` is the one entry; `extrapolation.py`, `selection.py` and `command.py` call it. The table is
any pandas table; `table.py` reads files into one.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.errors import UserError, nearest
from scaling.laws.checks import METHODS, OBJECTIVES, SPACES, choice, known_law
from scaling.laws.diagnosis import Found, outliers, to_vertex
from scaling.laws.law import Law
from scaling.laws.minimize import Minima, Problem, minimize
from scaling.laws.result import Fit
from scaling.laws.rows import check_enough, names_of, read_rows
from scaling.laws.starts import Screen, candidates, thin
from scaling.laws.uncertainty import bootstrap as resample

POLISHED = 16  # starts that are minimised to the end
LONG_TABLE = 4  # of the ends on some rows of a long table, so many go on with all of them
SMOOTHED = 1e-6  # Huber delta that stands for the absolute value, before the last step is exact


def fit(
    table: pd.DataFrame,
    law: str | Law = "power_floor",
    *,
    x: str | Mapping[str, str] = "params",
    loss: str | None = None,
    objective: str = "huber",
    delta: float = 1e-3,
    tilt: float = 0.5,
    space: str = "log",
    sd: str | None = None,
    fixed: Mapping[str, float] | None = None,
    bootstrap: int = 1000,
    method: str = "auto",
    cluster: str | None = None,
    level: float = 0.9,
    seed: int = 0,
    start: Mapping[str, float] | None = None,
    conventions: Mapping[str, str] | None = None,
    checks: bool = True,
    polished: int = POLISHED,
) -> Fit:
    """Fit a law to a table of runs.

    Args:
      table: one row a run (or a checkpoint of a run: then give `cluster`).
      law: a name in LAWS, or a Law.
      x: for a law of one column, the table's column; for others, law's column -> table's column
        where the names differ.
      loss: column that is predicted; None: the law's own default ("loss" for most).
      objective: sum over rows of "huber", "squares" (r^2 / 2), "absolute" (|r|), or "asymmetric"
        (Huber tilted to a quantile of the residuals).
      delta: of the Huber loss, in units of the residual (relative when space is log). tilt: the
      quantile that "asymmetric" aims at. space: "log" (residuals of log loss) or "linear". sd:
      column with the standard deviation (not the weight) of each row's loss. fixed: parameters (or
      constants of the law) that are given rather than fitted. bootstrap: resamples; 0: no
      intervals. method: of the intervals: cases or residual (bootstrap; auto chooses), delta, or
      profile (whose
        predictions are those of delta).
      cluster: column whose equal values mark rows of one run.
      level: of the intervals.
      seed: of the resampling.
      start: one more starting point, natural scale.
      conventions: what the columns count, carried into the result.
      checks: refit without the rows that lie far off, and say whether they decide the fit.
      polished: starting points of the grid that are minimised to the end.

    Raises UserError for a table that the law cannot be fitted to.
    """
    law = known_law(law) if isinstance(law, str) else law
    choice("--objective", objective, OBJECTIVES)
    choice("--space", space, SPACES)
    choice("--method", method, METHODS)
    names, loss = names_of(law, x), loss or law.target
    fixed = dict(law.constants or {}) | dict(fixed or {})
    for name in fixed:
        if name not in law.names and name not in (law.constants or {}):
            raise UserError(
                f"--fixed: {law.name} has no parameter {name}{nearest(name, law.names)}"
            )
    free = tuple(n for n in law.names if n not in fixed)
    rows = read_rows(table, law, names, loss, space, sd, cluster)
    check_enough(rows, law, free, names, loss)
    target = np.log(rows.loss) if space == "log" else rows.loss
    weight = np.ones(len(target))
    if rows.sd is not None:
        variance = (rows.sd / rows.loss) ** 2 if space == "log" else rows.sd**2
        weight = 1 / variance
        weight = weight / weight.mean()
    width, q, described = _loss_function(objective, delta, tilt, space)
    problem = Problem(law, free, fixed, rows.columns, target, weight, space, width, q)
    screen = Screen(thin(problem))
    extra = None
    if start is not None:
        extra = problem.coordinates(np.array([[start[n] for n in free]], float))
    begun, compared = candidates(screen, polished, extra)
    if not len(begun):
        raise UserError(f"{law.name} is undefined at every starting point on this table")
    minima = polish(problem, begun)
    at = int(np.argmin(minima.objective))
    if objective == "absolute":
        minima.coordinates[at] = to_vertex(problem, minima.coordinates[at])
    found = Found(problem, minima, at, rows, law)
    bootstrapped = method in ("auto", "cases", "residual")
    draws = resample(
        problem, found.coordinates, screen, draws=bootstrap if bootstrapped else 0,
        method=method, cluster=rows.cluster, seed=seed,
    )  # fmt: skip
    if not bootstrapped and bootstrap and draws.noise.dof > 0:
        draws = found.asymptotic(draws, method, bootstrap, seed)
    values = problem.values(found.coordinates)
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals, errors = {}, {}
    if len(draws.values):
        sides = np.quantile(draws.values, tails, axis=0).T
        if method == "profile":
            sides = found.profile(level)
        intervals = {n: (float(sides[i, 0]), float(sides[i, 1])) for i, n in enumerate(free)}
        errors = {n: float(draws.values[:, i].std(ddof=1)) for i, n in enumerate(free)}
    status, unidentified, notes = found.judge(intervals)
    if checks:
        notes = (*notes, *outliers(problem, found, begun[:3], intervals))
    given = {n: float(v) for n, v in zip(free, values, strict=True)} | fixed
    best = float(minima.objective[at])
    reached = int(np.sum(minima.objective <= best * (1 + 1e-6) + 1e-18))
    total = best
    if objective == "absolute":
        total = float(np.sum(weight * np.abs(found.residual)))
    return Fit(
        law=law.name, formula=law.formula,
        params={n: float(given[n]) for n in law.names}, intervals=intervals, level=level,
        method=draws.method, errors=errors, objective=total, loss_function=described,
        space=space, delta=delta, n=len(target), dropped=len(table) - len(target),
        status=status, flags=(*rows.flags, *draws.flags, *notes), unidentified=unidentified,
        x={c: names.get(c, c) for c in (law.needs or law.columns)}, loss=loss,
        ranges={c: (float(v.min()), float(v.max())) for c, v in rows.raw.items()},
        conventions=dict(conventions or {}), fixed=fixed, noise=draws.noise, starts=compared,
        polished=len(minima.objective), reached=reached,
        condition=found.condition, gradient=found.gradient, free=free, samples=draws.values,
    )  # fmt: skip


def _loss_function(
    objective: str, delta: float, tilt: float, space: str
) -> tuple[float, float, str]:
    residual = "residuals of log loss" if space == "log" else "residuals of loss"
    if objective != "squares" and objective != "absolute" and not delta > 0:
        raise UserError(f"--delta={delta} must be positive")
    if objective == "squares":
        return np.inf, 0.5, f"sum of half squares of {residual}"
    if objective == "absolute":
        return SMOOTHED, 0.5, f"sum of absolute {residual}"
    if objective == "asymmetric":
        if not 0 < tilt < 1:
            raise UserError(f"--tilt={tilt} must lie between 0 and 1")
        return delta, tilt, f"sum of Huber({delta:g}) of {residual}, tilted to quantile {tilt:g}"
    return delta, 0.5, f"sum of Huber({delta:g}) of {residual}"


def polish(problem: Problem, starts: np.ndarray) -> Minima:
    """Minimise from every start; every other one begins at a wide delta, which is then lowered.

    Stragglers are given up when most have ended, unless one of them already stands lower. A long
    table is first minimised on some of its rows; the best ends go on with all of them.
    """
    part = thin(problem)
    if len(part.target) < len(problem.target):
        first = polish(part, starts)
        order = np.argsort(first.objective)[:LONG_TABLE]
        return minimize(problem, first.coordinates[order])
    direct = (np.arange(len(starts)) % 2 == 0) & (problem.delta >= 1e-4)
    wide = np.where(direct, 0.0, 0.1)
    iterations = 200 if problem.delta >= 1e-4 else 800
    minima = minimize(problem, starts, first_delta=wide, quorum=0.6, iterations=iterations)
    best = minima.objective[minima.converged].min(initial=np.inf)
    left = np.flatnonzero(~minima.converged & ~(minima.objective > best))
    if not len(left):
        return minima
    more = minimize(problem, minima.coordinates[left], iterations=600)
    for name, values in vars(minima).items():
        values[left] = getattr(more, name)
    return minima
