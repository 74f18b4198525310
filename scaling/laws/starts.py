"""Starting points: a grid over the nonlinear parameters, the linear ones solved for at each point.

Weighted linear least squares of the relative residual, with signs kept, in closed form: a start per
grid point whose scale parameters are already the best ones. Called by `fitting.py` for the table
and by `uncertainty.py` for every resample.
"""

import itertools
from typing import Any

import numpy as np

from scaling.laws.problem import Problem, predict

ROWS = 4000  # a longer table is thinned for the choice of starts
_LARGEST = 300.0  # of the logarithm of a loss that a start is found for


def solve(
    gram: dict[tuple[int, int], np.ndarray], right: list[np.ndarray], signed: list[bool]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Least squares with coefficients >= 0 (unless signed), by trying every subset.

    gram[i, j] (i <= j) and right[i] are arrays of one shape, an entry a problem; the coefficients
    come in the same form, with the sum of squares that they explain.
    """
    count, shape = len(right), right[0].shape
    best_gain = np.full(shape, -1.0)
    best = [np.zeros(shape) for _ in range(count)]
    with np.errstate(all="ignore"):
        for size in range(1, count + 1):
            for chosen in itertools.combinations(range(count), size):
                c = _subset(gram, right, chosen)
                allowed = np.ones(shape, bool)
                for k, value in zip(chosen, c, strict=True):
                    allowed &= np.isfinite(value) & (signed[k] | (value > 0))
                gain = sum(right[k] * v for k, v in zip(chosen, c, strict=True))
                better = allowed & (gain > best_gain)
                best_gain = np.where(better, gain, best_gain)
                given: dict[int, Any] = dict(zip(chosen, c, strict=True))
                best = [np.where(better, given.get(k, 0.0), best[k]) for k in range(count)]
    return best, best_gain


def _subset(
    gram: dict[tuple[int, int], np.ndarray], right: list[np.ndarray], chosen: tuple[int, ...]
) -> list[np.ndarray]:
    """LDL' of the chosen rows and columns, elementwise over the problems."""
    size = len(chosen)
    lower: dict[tuple[int, int], Any] = {}
    pivot: list[Any] = []
    for j in range(size):
        diagonal = gram[chosen[j], chosen[j]]
        p = diagonal - sum(lower[j, k] ** 2 * pivot[k] for k in range(j))
        pivot.append(np.maximum(p, 1e-13 * diagonal))
        for i in range(j + 1, size):
            done = sum(lower[i, k] * lower[j, k] * pivot[k] for k in range(j))
            lower[i, j] = (gram[chosen[j], chosen[i]] - done) / pivot[j]
    half: list[Any] = []
    for i in range(size):
        half.append(right[chosen[i]] - sum(lower[i, k] * half[k] for k in range(i)))
    out: list[Any] = [None] * size
    for i in reversed(range(size)):
        out[i] = half[i] / pivot[i] - sum(lower[k, i] * out[k] for k in range(i + 1, size))
    return out


def thin(problem: Problem) -> Problem:
    """The problem on every k-th row, at most ROWS."""
    step = -(-len(problem.target) // ROWS)
    if step == 1:
        return problem
    columns = {k: v[::step] for k, v in problem.columns.items()}
    return Problem(
        problem.law, problem.free, problem.given, columns, problem.target[::step],
        problem.weight[::step], problem.space, problem.delta, problem.tilt,
    )  # fmt: skip


RESAMPLED = 16  # grid points that are tried on each resample


class Screen:
    """The grid of a problem, ready to give starts for it and for resamples of it."""

    def __init__(self, problem: Problem):
        self.problem = problem
        law, free = problem.law, problem.free
        units = _units(problem)
        self.grid = law.grid(free, units)
        self.linear = [i for i, n in enumerate(free) if law[n].linear]
        # A linear parameter that is given adds a known part: then the others take guesses.
        if any(p.linear and p.name not in free for p in law.parameters):
            self.linear = []
            self.grid = _with_guesses(problem, units)
        self.log = law.linear_in == "log"
        self.signed = [self.log or law[free[k]].low < 0 for k in self.linear]
        self.offset = 0.0
        self.basis = self._basis() if self.linear else None
        self.near = np.arange(len(self.grid))  # the grid points that resamples begin from

    def _basis(self) -> np.ndarray:
        """The prediction (or its logarithm) with one linear coordinate at 1 and the others at 0
        [linear, grid, rows].
        """
        problem, out = self.problem, []
        at = problem.coordinates(self.grid) if self.log else self.grid.copy()
        at[:, self.linear] = 0.0
        for k in self.linear:
            one = at.copy()
            one[:, k] = 1.0
            coordinates = one if self.log else problem.coordinates(one)
            out.append(predict(problem, coordinates, problem.columns))
        if not self.log:
            return np.stack(out)
        self.offset = np.log(predict(problem, at, problem.columns))
        return np.log(np.stack(out)) - self.offset

    def starts(self, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Coordinates [resamples, grid, free] with the linear parameters solved for."""
        return self._starts(targets, weights, np.arange(len(self.grid)))[0]

    def best(self, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The start of least weighted squared residual for every resample [resamples, free]."""
        starts, gain = self._starts(targets, weights, self.near)
        return starts[np.arange(len(targets)), np.argmax(gain, axis=1)]

    def _starts(
        self, targets: np.ndarray, weights: np.ndarray, keep: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Starts, and the weighted sum of squares that each explains [resamples, grid]."""
        values = np.repeat(self.grid[None, keep], len(targets), axis=0)
        gain = np.zeros(values.shape[:2])
        if self.basis is None:
            return self.problem.coordinates(values), gain
        phi, count = self.basis[:, keep], len(self.linear)
        in_logs = self.problem.space == "log"
        if self.log:
            actual = (targets if in_logs else np.log(targets)) - np.mean(self.offset, axis=0)
            relative = np.ones_like(actual)
        else:
            # Noise that four rows of a law of three parameters are drawn with has next to no bound,
            # and a start needs none: its square must be a number.
            actual = np.exp(np.clip(targets, -_LARGEST, _LARGEST)) if in_logs else targets
            relative = 1 / actual if in_logs else np.ones_like(actual)
        square = weights * relative**2
        gram = {(i, j): square @ (phi[i] * phi[j]).T for i in range(count) for j in range(i, count)}
        right = [(square * actual) @ phi[i].T for i in range(count)]
        found, gain = solve(gram, right, self.signed)
        if self.log:
            coordinates = self.problem.coordinates(values)
            coordinates[:, :, self.linear] = np.stack(found, axis=-1)
            return coordinates, gain
        for i, k in enumerate(self.linear):
            values[:, :, k] = found[i]
            if self.problem.law[self.problem.free[k]].link == "log":
                # A vanished term gets a small share, from which it can grow back.
                share = 1e-3 * np.abs(actual).mean() / np.abs(phi[i]).mean(axis=1)[None]
                values[:, :, k] = np.where(found[i] == 0, share, found[i])
        return self.problem.coordinates(values), gain

    def objectives(self, starts: np.ndarray) -> np.ndarray:
        """The problem's own objective at starts [grid, free]; inf where it is undefined."""
        with np.errstate(all="ignore"):
            predicted = predict(self.problem, starts, self.problem.columns)
            if self.problem.space == "log":
                predicted = np.log(predicted)
            residual = predicted - self.problem.target
            size = np.abs(residual)
            inner = np.minimum(size, self.problem.delta)
            q = self.problem.tilt
            side = np.where(residual > 0, 2 * (1 - q), 2 * q)
            total = np.sum(self.problem.weight * side * inner * (size - inner / 2), axis=1)
        return np.where(np.isfinite(total), total, np.inf)


def _units(problem: Problem) -> dict[str, float]:
    """Geometric mean of each positive column, and the extremes of the target, natural scale."""
    target = np.exp(problem.target) if problem.space == "log" else problem.target
    units = {"largest": float(target.max()), "least": float(target.min())}
    for name, values in problem.columns.items():
        positive = values[np.isfinite(values) & (values > 0)]
        units[name] = float(np.exp(np.log(positive).mean())) if positive.size else 1.0
    return units


def _with_guesses(problem: Problem, units: dict[str, float]) -> np.ndarray:
    """A grid in which linear parameters take a few values too."""
    law = problem.law
    axes: list[Any] = []
    for p in (law[n] for n in problem.free):
        unit = 1.0 if p.unit is None else units[p.unit] ** p.unit_power
        if p.linear:
            shares = (0.3 * units["least"], 0.7 * units["least"])
            axes.append(shares if p.link == "identity" else (1.0, 1e2, 1e4))
        else:
            axes.append([g * unit for g in p.grid])
    return np.array(list(itertools.product(*axes)), float)


def candidates(
    screen: Screen, count: int, extra: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """The starts to be minimised to the end [<= count, free], and how many were compared.

    Half are the best of the grid; half are spread over the rest, so that a basin that looks poor
    on the grid is tried too.
    """
    problem = screen.problem
    starts = screen.starts(problem.target[None], problem.weight[None])[0]
    if extra is not None:
        starts = np.concatenate([extra, starts])
    objective = screen.objectives(starts)
    given = 0 if extra is None else len(extra)
    screen.near = np.argsort(objective[given:], kind="stable")[:RESAMPLED]
    order = np.argsort(objective, kind="stable")
    order = order[np.isfinite(objective[order])]
    if len(order) > count:
        rest = np.linspace(count // 2, len(order) - 1, count - count // 2).round().astype(int)
        order = order[np.unique(np.concatenate([np.arange(count // 2), rest]))]
    return starts[order], len(starts)
