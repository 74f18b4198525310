"""Starting points: a grid over the nonlinear parameters, the linear ones solved for at each point.

Weighted linear least squares of the relative residual, with signs kept, in closed form: a start per
grid point whose scale parameters are already the best ones. Called by `fitting.py` for the table
and by `uncertainty.py` for every resample.
"""

import itertools
from typing import Any

import numpy as np

from scaling.laws.minimize import Problem, predict

ROWS = 4000  # a longer table is thinned for the choice of starts


def basis(problem: Problem, grid: np.ndarray, linear: list[int]) -> np.ndarray:
    """The law with one linear parameter at 1 and the others at 0 [linear, grid, rows]."""
    out = []
    for k in linear:
        values = grid.copy()
        values[:, linear] = 0.0
        values[:, k] = 1.0
        out.append(predict(problem, problem.coordinates(values), problem.columns))
    return np.stack(out)


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
        self.grid = law.grid(free)
        self.linear = [i for i, n in enumerate(free) if law[n].linear]
        # In other laws a fixed linear parameter adds a known part: the grid then needs all values.
        if any(p.linear and p.name not in free for p in law.parameters):
            self.linear = []
            self.grid = _with_guesses(problem)
        self.signed = [law[free[k]].low < 0 for k in self.linear]
        self.basis = basis(problem, self.grid, self.linear) if self.linear else None
        self.near = np.arange(len(self.grid))  # the grid points that resamples begin from

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
        if self.basis is not None:
            phi = self.basis[:, keep]
            actual = np.exp(targets) if self.problem.space == "log" else targets
            relative = 1 / actual if self.problem.space == "log" else np.ones_like(actual)
            square, product = weights * relative**2, weights * relative**2 * actual
            count = len(self.linear)
            gram = {
                (i, j): square @ (phi[i] * phi[j]).T for i in range(count) for j in range(i, count)
            }
            found, gain = solve(gram, [product @ phi[i].T for i in range(count)], self.signed)
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


def _with_guesses(problem: Problem) -> np.ndarray:
    """A grid in which linear parameters take a few shares of the largest target."""
    law = problem.law
    largest = float(np.max(problem.target))
    typical = np.exp(largest) if problem.space == "log" else largest
    axes: list[Any] = []
    for n in problem.free:
        p = law[n]
        guesses = (0.3 * typical, 0.7 * typical) if p.link == "identity" else (1.0, 1e2, 1e4)
        axes.append(guesses if p.linear else p.grid)
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
