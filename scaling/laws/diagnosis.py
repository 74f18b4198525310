"""What can be said about a minimum: whether it is interior, what it leaves open, who decides it.

Takes a problem and its minima; gives status, unidentified parameters and sentences. Called by
`fitting.py`.
"""

from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np

from scaling.laws.asymptotics import delta_draws, profile
from scaling.laws.law import Law
from scaling.laws.minimize import Minima, minimize
from scaling.laws.problem import Problem, pad, padded, predict, sensitivities
from scaling.laws.rows import Rows
from scaling.laws.uncertainty import Draws

FAR_OFF = 6.0  # robust standard deviations from which a row counts as an outlier


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


def with_copies(problem: Problem, found: "Found", starts: np.ndarray) -> tuple[str, ...]:
    """What the fit would be if rows that are exact copies of others counted, where that matters:
    some published optima count them.
    """
    copies = found.rows.copies
    if not copies.any():
        return ()
    counted = replace(problem, weight=problem.weight * (1 + copies))
    minima = minimize(counted, np.concatenate([found.coordinates[None], starts]))
    at = int(np.argmin(minima.objective))
    old, new = problem.values(found.coordinates), problem.values(minima.coordinates[at])
    best, other = found.objective, float(minima.objective[at])
    if abs(other - best) <= 1e-6 * best:
        return ()
    moved = [
        f"{n} {old[i]:.5g} -> {new[i]:.5g}"
        for i, n in enumerate(problem.free)
        if f"{old[i]:.5g}" != f"{new[i]:.5g}"
    ]
    told = f" ({', '.join(moved)})" if moved else ""
    return (
        f"the objective at the minimum is {best:.9g} without the copies and {other:.9g} with "
        f"them{told}",
    )


class Found:
    """A minimum and what can be said about it."""

    def __init__(self, problem: Problem, minima: Minima, at: int, rows: Rows, law: Law):
        self.problem, self.rows, self.law = problem, rows, law
        self.coordinates = minima.coordinates[at]
        self.converged = bool(minima.converged[at])
        self.objective = float(minima.objective[at])
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
