"""From a table to a fitted law: read the columns, find the minimum, say how well it is known.

`fit` is the one entry; `extrapolation.py`, `selection.py` and `launch.py fit` call it. The table is
any pandas table; `table.py` reads files into one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
import pandas as pd

from scaling.errors import UserError, nearest
from scaling.laws.asymptotics import delta_draws, profile
from scaling.laws.law import Law
from scaling.laws.minimize import Minima, Problem, minimize, pad, padded, predict, sensitivities
from scaling.laws.result import Fit
from scaling.laws.starts import Screen, candidates, thin
from scaling.laws.uncertainty import Draws, groups_of
from scaling.laws.uncertainty import bootstrap as resample

METHODS = ("auto", "cases", "residual", "delta", "profile")
OBJECTIVES = ("huber", "squares", "absolute", "asymmetric")
RUN_COLUMNS = ("run", "run_id", "run_name", "fingerprint")  # that tell runs apart
POLISHED = 16  # starts that are minimised to the end
LONG_TABLE = 4  # of the ends on some rows of a long table, so many go on with all of them
FAR_OFF = 6.0  # robust standard deviations from which a row counts as an outlier
SMOOTHED = 1e-6  # Huber delta that stands for the absolute value, before the last step is exact


@dataclass(frozen=True)
class Rows:
    """What a fit uses of a table."""

    columns: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]  # before `prepare`
    loss: np.ndarray
    sd: np.ndarray | None
    cluster: np.ndarray | None
    kept: np.ndarray  # row numbers in the table
    flags: tuple[str, ...]


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats. Raises UserError for a missing column or a cell that is no number."""
    if name not in table.columns:
        raise UserError(f"the table has no column {name}{nearest(name, map(str, table.columns))}")
    column = table[name]
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    bad = np.isnan(values) & column.notna().to_numpy()
    if bad.any():
        bad &= ~column.astype(str).str.strip().str.lower().isin(["", "nan", "na", "none"])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UserError(
            f'column {name} holds "{column.iloc[row]}" in row {row + 1}, which is no number '
            f"({int(bad.sum())} such cells); correct it, or leave such rows out with --where"
        )
    return values


def labels(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column of any values as numbers 0, 1, ... of the distinct ones (empty cells are one)."""
    if name not in table.columns:
        raise UserError(f"the table has no column {name}{nearest(name, map(str, table.columns))}")
    return pd.factorize(table[name].astype(str))[0].astype(float)


def _copies(table: pd.DataFrame) -> np.ndarray:
    """Rows that equal an earlier row in every column [rows]."""
    try:
        return table.duplicated().to_numpy()
    except TypeError:  # a column of lists or dicts
        return table.astype(str).duplicated().to_numpy()


def read_rows(
    table: pd.DataFrame,
    law: Law,
    x: Mapping[str, str],
    loss: str,
    space: str,
    sd: str | None,
    cluster: str | None,
) -> Rows:
    """The rows of a table that a law can be fitted to, and sentences about those left out."""
    if not len(table):
        raise UserError("the table has no rows")
    flags = []
    copies = _copies(table)
    if copies.any():
        flags.append(f"{int(copies.sum())} rows are exact copies of others and are left out")
    shared = [c for c in RUN_COLUMNS if c in table.columns and table[c].duplicated().any()]
    if shared and cluster is None and not law.needs:
        flags.append(
            f"several rows share a {shared[0]}: if they are checkpoints of one run, give "
            f"cluster={shared[0]}, or the intervals are too narrow"
        )
    needed = law.needs or law.columns
    columns = {
        name: (labels if name in law.labels else numbers)(table, x.get(name, name))
        for name in needed
    }
    losses = numbers(table, loss)
    keep = ~copies
    lost = ~np.isfinite(losses) & keep
    if lost.any():
        flags.append(f"{int(lost.sum())} rows without a finite {loss} are left out")
    keep &= ~lost
    for name, values in columns.items():
        empty = ~np.isfinite(values) & keep
        if empty.any():
            flags.append(f"{int(empty.sum())} rows without a finite {x.get(name, name)} left out")
        keep &= ~empty
        wrong = keep & ((values < 0) if name in (*law.zeros, *law.labels) else (values <= 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"column {x.get(name, name)} is {values[row]:g} in row {row + 1} "
                f"({int(wrong.sum())} such rows): {law.name} needs positive values; leave them "
                f"out with --where='{x.get(name, name)}>0'"
            )
    if space == "log" and (keep & (losses <= 0)).any():
        raise UserError(
            f"column {loss} has zeros or negative values, which have no logarithm: fit with "
            "space=linear, or leave those rows out with --where"
        )
    if not keep.any():
        raise UserError(f"no row of the table has a finite {loss} and all of {', '.join(needed)}")
    raw = {k: v[keep] for k, v in columns.items()}
    noise = numbers(table, sd)[keep] if sd else None
    if noise is not None and not (np.isfinite(noise) & (noise > 0)).all():
        raise UserError(f"column {sd} must hold positive standard deviations of {loss}")
    label = labels(table[keep], cluster).astype(int) if cluster else None
    prepared = law.prepare(raw) if law.prepare else raw
    return Rows(prepared, raw, losses[keep], noise, label, np.flatnonzero(keep), tuple(flags))


def _check_enough(
    rows: Rows, law: Law, free: Sequence[str], x: Mapping[str, str], loss: str
) -> None:
    for name, values in rows.raw.items():
        if np.ptp(values) == 0 and name not in (*law.optional, *law.labels):
            raise UserError(
                f"{law.name}: all {len(values)} rows have the same {x.get(name, name)} "
                f"({values[0]:g}); "
                "a law needs several sizes"
            )
    points = int(groups_of(rows.raw).max()) + 1
    if points < len(free):
        raise UserError(
            f"{law.name} has {len(free)} free parameters and the table {points} distinct points; "
            "add runs, fix parameters, or fit a law with fewer"
        )
    if np.ptp(rows.loss) <= 1e-12 * np.abs(rows.loss).max():
        raise UserError(f"all {len(rows.loss)} values of {loss} are equal: there is nothing to fit")


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
    from scaling.laws import LAWS  # the registry imports this module

    if isinstance(law, str):
        if law not in LAWS:
            raise UserError(f"no law {law}{nearest(law, LAWS)}")
        law = LAWS[law]
    _check_choice("objective", objective, OBJECTIVES)
    _check_choice("space", space, ("log", "linear"))
    _check_choice("method", method, METHODS)
    names = {law.columns[0]: x} if isinstance(x, str) and law.columns == ("x",) else {}
    names = dict(x) if isinstance(x, Mapping) else names
    loss = loss or law.target
    fixed = dict(law.constants or {}) | dict(fixed or {})
    for name in fixed:
        if name not in law.names and name not in (law.constants or {}):
            raise UserError(f"fixed: {law.name} has no parameter {name}{nearest(name, law.names)}")
    free = tuple(n for n in law.names if n not in fixed)
    rows = read_rows(table, law, names, loss, space, sd, cluster)
    _check_enough(rows, law, free, names, loss)
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


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(f"{name}={value} is not offered{nearest(value, allowed)}")


def _loss_function(
    objective: str, delta: float, tilt: float, space: str
) -> tuple[float, float, str]:
    residual = "residuals of log loss" if space == "log" else "residuals of loss"
    if objective != "squares" and objective != "absolute" and not delta > 0:
        raise UserError(f"delta={delta} must be positive")
    if objective == "squares":
        return np.inf, 0.5, f"sum of half squares of {residual}"
    if objective == "absolute":
        return SMOOTHED, 0.5, f"sum of absolute {residual}"
    if objective == "asymmetric":
        if not 0 < tilt < 1:
            raise UserError(f"tilt={tilt} must lie between 0 and 1")
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


def residuals(problem: Problem, coordinates: np.ndarray) -> np.ndarray:
    """Fitted minus target [rows], in the problem's space."""
    fitted = predict(problem, coordinates[None], problem.columns)[0]
    return (np.log(fitted) if problem.space == "log" else fitted) - problem.target


def jacobian_at(problem: Problem, coordinates: np.ndarray) -> np.ndarray:
    """Derivatives of the fitted values by the coordinates [rows, free]."""
    rows = len(problem.target)
    columns = {k: pad(np.asarray(v, float), padded(rows)) for k, v in problem.columns.items()}
    with jax.enable_x64(True):
        run = sensitivities(problem.law, problem.free, problem.space)
        return np.asarray(run(coordinates, dict(problem.given), columns))[:rows]


def to_vertex(problem: Problem, coordinates: np.ndarray) -> np.ndarray:
    """A least-absolute-deviations fit passes through as many points as it has parameters: from a
    fit that nearly does, Newton's method makes it exact. Unchanged when that gives no lower sum.
    """
    first = residuals(problem, coordinates)
    through = np.argsort(np.abs(first), kind="stable")[: len(coordinates)]
    at = coordinates.copy()
    for _ in range(10):
        gap, slope = residuals(problem, at)[through], jacobian_at(problem, at)[through]
        at = at - np.linalg.lstsq(slope, gap, rcond=1e-12)[0]
    low, high = problem.bounds()
    sums = [np.sum(problem.weight * np.abs(r)) for r in (first, residuals(problem, at))]
    return at if sums[1] < sums[0] and np.all((at >= low) & (at <= high)) else coordinates


def outliers(
    problem: Problem,
    found: "Found",
    starts: np.ndarray,
    intervals: Mapping[str, tuple[float, float]],
) -> tuple[str, ...]:
    """Whether rows far from the fit decide it: what it would be without them, and without the
    quarter of the rows that fits worst. Nothing when no row is far off.
    """
    size = np.abs(found.residual)
    far = size > FAR_OFF * 1.4826 * np.median(size)
    if not 0 < far.sum() <= 0.05 * len(size):
        return ()
    law, free = problem.law, problem.free
    compared = [
        i
        for i, n in enumerate(free)
        if n in law.exponents or (not law[n].linear and n != law.floor)
    ]
    old = problem.values(found.coordinates)

    def without(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = replace(problem, weight=np.where(rows, 0.0, problem.weight))
        minima = minimize(kept, np.concatenate([found.coordinates[None], starts]))
        at = minima.coordinates[int(np.argmin(minima.objective))]
        return problem.values(at), np.abs(residuals(problem, at))

    def decided(new: np.ndarray) -> list[str]:
        out = []
        for i in compared:
            low, high = intervals.get(free[i], (old[i], old[i]))
            outside = abs(new[i] - old[i]) > 0.1 * abs(old[i]) and not low <= new[i] <= high
            if outside or (law[free[i]].link == "log" and abs(np.log(new[i] / old[i])) > 2):
                out.append(free[i])
        return out

    def moves(new: np.ndarray) -> str:
        return ", ".join(f"{free[i]} {old[i]:.4g} -> {new[i]:.4g}" for i in compared)

    told = f"{int(far.sum())} rows lie more than {FAR_OFF:g} robust standard deviations off"
    new, _ = without(far)
    if names := decided(new):
        return (f"outliers decide {', '.join(names)}: {told}; without them {moves(new)}",)
    trimmed = size
    for _ in range(2):
        worst, trimmed = without(trimmed > np.quantile(trimmed, 0.75))
    if names := decided(worst):
        return (
            f"outliers decide {', '.join(names)}: {told}; without the quarter of the rows that "
            f"fits worst {moves(worst)}",
        )
    return (f"{told}; without them {moves(new)}",)


class Found:
    """A minimum and what can be said about it."""

    def __init__(self, problem: Problem, minima: Minima, at: int, rows: Rows, law: Law):
        self.problem, self.rows, self.law = problem, rows, law
        self.coordinates = minima.coordinates[at]
        self.converged = bool(minima.converged[at])
        low, high = problem.bounds()
        inside = 1e-9 * (1 + np.abs(self.coordinates))
        self.at_low = self.coordinates <= low + inside
        self.at_high = self.coordinates >= high - inside
        jacobian = jacobian_at(problem, self.coordinates)
        self.residual = residuals(problem, self.coordinates)
        self.jacobian = jacobian * np.sqrt(problem.weight)[:, None]
        length = np.linalg.norm(self.jacobian, axis=0)
        self.idle = length <= 1e-9 * max(length.max(), 1e-300)
        live = ~(self.idle | self.at_low | self.at_high)
        scaled = self.jacobian[:, live] / length[live]
        self.live = np.flatnonzero(live)
        _, self.singular, self.directions = np.linalg.svd(scaled, full_matrices=False)
        smallest = self.singular[-1] if len(self.singular) else 0.0
        self.condition = float((self.singular[0] / smallest) ** 2) if smallest > 0 else np.inf
        free_gradient = minima.gradient[at][live] / np.maximum(length[live], 1e-300)
        value = max(float(minima.objective[at]), 1e-300)
        largest = float(np.max(np.abs(free_gradient), initial=0.0))
        self.gradient = float(largest / np.sqrt(value) / min(1.0, np.sqrt(problem.delta)))

    def asymptotic(self, draws: Draws, method: str, count: int, seed: int) -> Draws:
        """Draws of the delta method in the place of a bootstrap's."""
        values = delta_draws(
            self.problem, self.coordinates, self.residual, self.jacobian, self.live, draws=count,
            seed=seed,
        )  # fmt: skip
        name = "delta method (multivariate t)"
        name = f"profile likelihood; predictions by the {name}" if method == "profile" else name
        return replace(draws, values=self.problem.values(values), method=name)

    def profile(self, level: float) -> np.ndarray:
        """Profile-likelihood intervals [free, 2], natural scale."""
        sides = profile(
            self.problem, self.coordinates, self.residual, self.jacobian, self.live, level=level
        )
        return self.problem.values(sides.T).T

    def judge(
        self, intervals: Mapping[str, tuple[float, float]]
    ) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Status, unidentified parameters, and the sentences that go with them."""
        free, flags = self.problem.free, []
        unknown = [free[i] for i in np.flatnonzero(self.idle)]
        flags += [f"{n} has no influence on the losses of this table" for n in unknown]
        if len(self.singular) and self.condition > 1e13:
            weight = np.abs(self.directions[-1])
            tied = [free[i] for i in self.live[weight > 0.1 * weight.max()]]
            flags.append(f"only a combination of {', '.join(tied)} is determined")
            unknown += tied
        edge = []
        for i in np.flatnonzero((self.at_low | self.at_high) & ~self.idle).tolist():
            side = "lower" if self.at_low[i] else "upper"
            bound = self.problem.values(self.coordinates)[i]
            if free[i] == self.law.floor and side == "lower":
                unknown.append(free[i])
                flags.append(
                    f"{free[i]} is at zero: the data do not identify an irreducible loss, and "
                    "extrapolations far beyond them are not to be trusted"
                )
            else:
                edge.append(free[i])
                flags.append(f"{free[i]} is at its {side} bound {bound:g}")
        values = self.problem.values(self.coordinates)
        for i, n in enumerate(free):
            if n in intervals and n not in unknown and self.law[n].link == "log":
                low, high = intervals[n]
                if high > 10 * values[i] and not self.law[n].linear:
                    flags.append(
                        f"{n} is hardly bounded from above ({values[i]:.4g} to {high:.3g})"
                    )
                if low < 0.1 * values[i] and not self.law[n].linear:
                    flags.append(f"{n} is hardly bounded from below ({low:.3g} to {values[i]:.4g})")
        floor = self.law.floor
        if floor in free and floor not in unknown:
            low, high = intervals.get(floor, (values[free.index(floor)],) * 2)
            least = float(self.rows.loss.min())
            if low <= 0.01 * least or high - low > 0.5 * least:
                unknown.append(floor)
                flags.append(
                    f"{floor} = {values[free.index(floor)]:.4g} [{low:.4g}, {high:.4g}] is not "
                    f"identified: the losses, all above {least:.4g}, leave it nearly free"
                )
        if not self.converged and not unknown and self.gradient > 1e-4:
            return "not converged", tuple(dict.fromkeys(unknown)), tuple(flags)
        status = "unidentified" if unknown else "boundary" if edge else "interior"
        return status, tuple(dict.fromkeys(unknown)), tuple(flags)
