"""From a table to a fitted law: read the columns, find the minimum, say how well it is known.

`fit` is the one entry; `extrapolation.py`, `selection.py` and `fit_command.py` call it. The table
is any pandas table; `table.py` reads files into one.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.errors import UserError, nearest
from scaling.laws.checks import METHODS, OBJECTIVES, SPACES, choice, known_law
from scaling.laws.diagnosis import Found, outliers, to_vertex, with_copies
from scaling.laws.forecast import forecast
from scaling.laws.law import Law
from scaling.laws.measures import formula_of, unit_of
from scaling.laws.minimize import Minima, minimize
from scaling.laws.options import Options
from scaling.laws.problem import Problem
from scaling.laws.result import Fit
from scaling.laws.rows import check_enough, names_of, read_rows
from scaling.laws.starts import Screen, candidates, thin
from scaling.laws.truth import truth_of
from scaling.laws.uncertainty import ITERATIONS
from scaling.laws.uncertainty import bootstrap as resample

POLISHED = 16  # starts that are minimised to the end
LONG_TABLE = 4  # of the ends on some rows of a long table, so many go on with all of them
SMOOTHED = 1e-6  # Huber delta that stands for the absolute value, before the last step is exact


def fit(
    table: pd.DataFrame,
    law: str | Law = "power_floor",
    options: Options | None = None,
    *,
    start: Mapping[str, float] | None = None,
    conventions: Mapping[str, str] | None = None,
    checks: bool = True,
    polished: int = POLISHED,
    iterations: int = ITERATIONS,
) -> Fit:
    """Fit a law to a table of runs.

    Args:
      table: one row a run (or a checkpoint of a run: then give `cluster`).
      law: a name in LAWS, or a Law.
      options: of the fit; None: as they are by default.
      start: one more starting point, natural scale.
      conventions: what the columns count, carried into the result.
      checks: refit without the rows that lie far off, and say whether they decide the fit.
      polished: starting points of the grid that are minimised to the end.
      iterations: of a resample's refit, at most.

    Raises UserError for a table that the law cannot be fitted to.
    """
    law, o = known_law(law) if isinstance(law, str) else law, options or Options()
    choice("--objective", o.objective, OBJECTIVES)
    choice("--space", o.space, SPACES)
    choice("--method", o.method, METHODS)
    names, loss = names_of(law, o.x, table), o.loss or law.target
    fixed = dict(law.constants or {}) | dict(o.fixed)
    for name in fixed:
        if name not in law.names and name not in (law.constants or {}):
            raise UserError(
                f"--fixed: {law.name} has no parameter {name}{nearest(name, law.names)}"
            )
    free = tuple(n for n in law.names if n not in fixed)
    rows = read_rows(table, law, names, loss, o)
    check_enough(rows, law, free, names, loss)
    target = np.log(rows.loss) if o.space == "log" else rows.loss
    weight = np.ones(len(target))
    if rows.sd is not None:
        variance = (rows.sd / rows.loss) ** 2 if o.space == "log" else rows.sd**2
        weight = 1 / variance
        weight = weight / weight.mean()
    width, q, described = _loss_function(o)
    problem = Problem(law, free, fixed, rows.columns, target, weight, o.space, width, q)
    screen = Screen(thin(problem))
    extra = None
    if start is not None:
        extra = problem.coordinates(np.array([[start[n] for n in free]], float))
    begun, compared = candidates(screen, polished, extra)
    if not len(begun):
        raise UserError(f"{law.name} is undefined at every starting point on this table")
    minima = polish(problem, begun)
    at = int(np.argmin(minima.objective))
    if o.objective == "absolute":
        minima.coordinates[at] = to_vertex(problem, minima.coordinates[at])
    found = Found(problem, minima, at, rows, law)
    bootstrapped = o.method in ("auto", "cases", "residual")
    draws = resample(
        problem, found.coordinates, screen, draws=o.bootstrap if bootstrapped else 0,
        method=o.method, cluster=rows.cluster, seed=o.seed, iterations=iterations,
    )  # fmt: skip
    if not bootstrapped and o.bootstrap and draws.noise.dof > 0:
        draws = found.asymptotic(draws, o.method, o.bootstrap, o.seed)
    values = problem.values(found.coordinates)
    tails = [(1 - o.level) / 2, (1 + o.level) / 2]
    intervals, errors = {}, {}
    if len(draws.values):
        sides = np.quantile(draws.values, tails, axis=0).T
        if o.method == "profile":
            sides = found.profile(o.level)
        intervals = {n: (float(sides[i, 0]), float(sides[i, 1])) for i, n in enumerate(free)}
        errors = {n: float(draws.values[:, i].std(ddof=1)) for i, n in enumerate(free)}
    status, unidentified, notes = found.judge(intervals)
    if checks:
        notes = (*with_copies(problem, found, begun[:3]), *notes)
        notes = (*notes, *outliers(problem, found, begun[:3], intervals))
    given = {n: float(v) for n, v in zip(free, values, strict=True)} | fixed
    best = float(minima.objective[at])
    reached = int(np.sum(minima.objective <= best * (1 + 1e-6) + 1e-18))
    errors_known = None
    if len(draws.values) and o.forecast:
        errors_known = forecast(problem, rows.raw, given)
    total = best
    if o.objective == "absolute":
        total = float(np.sum(weight * np.abs(found.residual)))
    return Fit(
        law=law.name, formula=formula_of(law, names), unit=unit_of(table),
        params={n: float(given[n]) for n in law.names}, intervals=intervals, level=o.level,
        method=draws.method, errors=errors, objective=total, loss_function=described,
        space=o.space, delta=o.delta, n=len(target), dropped=len(table) - len(target),
        status=status, flags=(*rows.flags, *draws.flags, *notes), unidentified=unidentified,
        x={c: names.get(c, c) for c in (law.needs or law.columns)}, loss=loss,
        ranges={c: (float(v.min()), float(v.max())) for c, v in rows.raw.items()},
        conventions=dict(conventions or {}), fixed=fixed, noise=draws.noise, starts=compared,
        polished=len(minima.objective), reached=reached,
        condition=found.condition, gradient=found.gradient, free=free, samples=draws.values,
        forecast=errors_known, tied=rows.tied,
        known=truth_of(table[table[loss].notna()], law, names, loss),
    )  # fmt: skip


def _loss_function(o: Options) -> tuple[float, float, str]:
    delta, residual = o.delta, f"residuals of {'log ' if o.space == 'log' else ''}loss"
    if o.objective == "squares":
        return np.inf, 0.5, f"sum of half squares of {residual}"
    if o.objective == "absolute":
        return SMOOTHED, 0.5, f"sum of absolute {residual}"
    if not delta > 0:
        raise UserError(f"--delta={delta} must be positive")
    if o.objective == "asymmetric":
        if not 0 < o.tilt < 1:
            raise UserError(f"--tilt={o.tilt} must lie between 0 and 1")
        said = f"sum of Huber({delta:g}) of {residual}, tilted to quantile {o.tilt:g}"
        return delta, o.tilt, said
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
