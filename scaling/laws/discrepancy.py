"""How far the truth departs from a law: a smooth discrepancy beside parameters and noise.

Log loss is taken as law + discrepancy + noise (Kennedy & O'Hagan 2001, J. R. Statist. Soc. B 63,
425): the discrepancy a Gaussian process over the logarithms of the columns, which the runs pin down
where they are and leave free away from them; the noise heavy-tailed, and larger where there is more
loss to lose. Takes the rows of a fit; gives, for each size of discrepancy that is thought of, how
well it explains them and what it predicts elsewhere. Called by `forecast.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.laws.curve import Curve, Known

TAIL = 4.0  # degrees of freedom of the noise
STEPS = 25  # of Levenberg and Marquardt
ROUNDS = 3  # in which the scatter about the law is found
BASIS = 40  # functions that a discrepancy is made of, at most
NEGLIGIBLE = 1e-6  # share of its variance that these may leave out
GROWTHS = np.linspace(0.0, 1.5, 7)  # powers of the reducible share that the noise may follow


@dataclass(frozen=True)
class Sizes:
    """What is thought of, before a table is seen (docs/intervals.md)."""

    departures: tuple[float, ...] = (0.0, 0.12, 0.4, 1.2)  # sd, in spreads of the table's log loss
    noises: tuple[float, ...] = (1.0, 0.3)  # variance, as a share of the scatter about the law
    length: float = 4.0  # over which a discrepancy changes, in e-foldings of a column
    growth: float = 0.7  # power of the reducible share that the noise follows, and
    growth_sd: float = 0.4
    known: Known = field(default_factory=Known)


@dataclass(frozen=True)
class Rows:
    """Runs, as the discrepancy sees them."""

    place: np.ndarray  # [rows, columns]: logarithms of the columns
    columns: Mapping[str, np.ndarray]  # what the law reads [rows, ...]
    target: np.ndarray  # [rows], in the fit's space
    weight: np.ndarray  # [rows]: relative precision

    def those(self, which: np.ndarray) -> "Rows":
        """Some of them, by a mask or by number."""
        columns = {k: np.asarray(v)[which] for k, v in self.columns.items()}
        return Rows(self.place[which], columns, self.target[which], self.weight[which])


@dataclass(frozen=True)
class Accounts:
    """Sizes of discrepancy and noise, each with the law and the discrepancy that go with it."""

    departure: np.ndarray  # [accounts]: standard deviation of the discrepancy
    noise: np.ndarray  # [accounts]: of a typical run
    growth: float  # power of the reducible share that the noise follows
    typical: float  # reducible share of a typical run
    at: np.ndarray  # [accounts, free + basis]: coordinates of the law, and of the discrepancy
    covariance: np.ndarray  # [accounts, free + basis, free + basis], of these
    evidence: np.ndarray  # [accounts]: log of how well each explains the rows
    residual: np.ndarray  # [accounts, rows]: in standard deviations of the noise

    def those(self, which: np.ndarray) -> "Accounts":
        """Some of them, by a mask or by number."""
        picked = {k: v[which] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **picked)


@dataclass(frozen=True)
class Told:
    """What accounts say of some rows: [accounts, rows] each, variances but for the mean."""

    mean: np.ndarray
    parameters: np.ndarray
    form: np.ndarray
    noise: np.ndarray


def matern(first: np.ndarray, second: np.ndarray, length: float) -> np.ndarray:
    """Correlation of the discrepancy [first, second] between places [rows, columns]: Matern's of
    smoothness 5/2 (Rasmussen & Williams 2006, eq. 4.17).
    """
    apart = np.sqrt(5 * ((first[:, None] - second[None]) ** 2).sum(axis=2)) / length
    return (1 + apart + apart**2 / 3) * np.exp(-apart)


class Basis:
    """Functions whose random sum is the discrepancy: a Cholesky factor of the correlations of the
    runs' places with pivots, which stops where nothing is left (Fine & Scheinberg 2001, J. Mach.
    Learn. Res. 2, 243).
    """

    def __init__(self, place: np.ndarray, length: float):
        self.length = length
        left, factor = np.ones(len(place)), np.zeros((len(place), 0))
        pivots: list[int] = []
        while len(pivots) < min(BASIS, len(place)) and left.max() > NEGLIGIBLE:
            at = int(np.argmax(left))
            related = matern(place, place[at : at + 1], length)[:, 0]
            column = (related - factor @ factor[at]) / np.sqrt(left[at])
            factor = np.concatenate([factor, column[:, None]], axis=1)
            left = np.maximum(left - column**2, 0.0)
            left[at] = 0.0
            pivots.append(at)
        self.pivots, self.root = place[pivots], factor[pivots]

    def __call__(self, place: np.ndarray) -> np.ndarray:
        """Values of the functions at places [rows, columns]: [rows, basis]."""
        related = matern(self.pivots, place, self.length)
        return np.linalg.solve(self.root, related).T


class Explainer:
    """The accounts of a table, or of some of its rows."""

    def __init__(self, curve: Curve, rows: Rows, params: Mapping[str, float], sizes: Sizes):
        self.curve, self.rows, self.params, self.sizes = curve, rows, params, sizes
        self.basis = Basis(rows.place, sizes.length)
        self.shape = self.basis(rows.place)

    def explain(self, parts: Sequence[np.ndarray]) -> list[Accounts]:
        """The accounts of each part of the rows ([rows], bool), all found at once."""
        rows, sizes, curve = self.rows, self.sizes, self.curve
        log, loss = curve.space == "log", rows.target
        loss = np.exp(loss) if log else loss
        used = np.stack(parts).astype(float)
        begun = [curve.begin(self.params, loss[part], sizes.known) for part in parts]
        at, middle, spread = (np.stack(arrays) for arrays in zip(*begun, strict=True))
        spread_of_loss = np.array([rows.target[part].std() for part in parts])
        task = _Tasks(self, used, middle, spread**-2.0)
        still = np.zeros(len(parts))
        basis = np.zeros((len(parts), self.shape.shape[1]))
        at = np.concatenate([at, basis], axis=1)
        noisy = np.broadcast_to(1 / rows.weight, used.shape)
        scatter = task.scatter(at, noisy, spread_of_loss)
        for _ in range(ROUNDS):
            at = task.solve(at, still, scatter, noisy, STEPS // ROUNDS)
            scatter = task.scatter(at, noisy, spread_of_loss)
        share = reducible(curve, at, task.curve(at)[0])
        typical = np.array([np.median(s[part]) for s, part in zip(share, parts, strict=True)])
        gap = np.abs(rows.target - task.curve(at)[0]) * np.sqrt(rows.weight)
        growth = np.array([
            growth_of(g[part], np.log(s[part] / t), sizes)
            for g, s, t, part in zip(gap, share, typical, parts, strict=True)
        ])  # fmt: skip
        noisy = _relative(share, typical, growth) / rows.weight
        scatter = task.scatter(at, noisy, spread_of_loss)
        kinds = [(d, q) for d in sizes.departures for q in (sizes.noises if d else (1.0,))]
        many = np.repeat(np.arange(len(parts)), len(kinds))
        departure = spread_of_loss[many] * np.tile([d for d, _ in kinds], len(parts))
        noise = scatter[many] * np.tile([q for _, q in kinds], len(parts)) ** 0.5
        task, at, noisy = task.repeated(many), at[many], noisy[many]
        at = task.solve(at, departure, noise, noisy, STEPS)
        covariance, evidence, residual = task.laplace(at, departure, noise, noisy)
        return [
            Accounts(
                departure[m],
                noise[m],
                float(growth[i]),
                float(typical[i]),
                at[m],
                covariance[m],
                evidence[m],
                residual[m],
            )
            for i in range(len(parts))
            for m in [many == i]
        ]

    def slopes(self, known: Accounts, at: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The law's value at rows [accounts, rows], the slopes of law and discrepancy by the
        coordinates [accounts, rows, free + basis], and the variance of what of the discrepancy is
        in no coordinate [accounts, rows].
        """
        value, slopes = self.curve(known.at[:, : len(self.curve.free)], at.columns)
        shape = self.basis(at.place)
        wide = known.departure[:, None, None] * shape[None]
        left = known.departure[:, None] ** 2 * np.maximum(1 - (shape**2).sum(axis=1), 0)
        return value, np.concatenate([slopes, wide], axis=2), left

    def tell(self, known: Accounts, at: Rows) -> Told:
        """What accounts say of rows."""
        free = len(self.curve.free)
        value, inclined, beyond = self.slopes(known, at)
        wide = inclined[:, :, free:]
        both = ((inclined @ known.covariance) * inclined).sum(axis=2)
        # The form's share is what would be left if the parameters were known.
        precision = np.linalg.inv(known.covariance)[:, free:, free:]
        form = ((wide @ np.linalg.inv(precision)) * wide).sum(axis=2)
        return Told(
            mean=value + np.einsum("trb,tb->tr", wide, known.at[:, free:]),
            parameters=np.maximum(both - form, 0.0),
            form=form + beyond,
            noise=self._noise(known, value, at),
        )

    def _noise(self, known: Accounts, value: np.ndarray, at: Rows) -> np.ndarray:
        """Variance of the noise of runs where the law has these values [accounts, rows]."""
        share = reducible(self.curve, known.at, value)
        relative = _relative(share, np.array([known.typical]), np.array([known.growth]))
        return known.noise[:, None] ** 2 * relative / at.weight

    def covary(self, known: Accounts, at: Rows) -> np.ndarray:
        """Covariances of runs at rows, by each account [accounts, rows, rows]: of what they share,
        and on the diagonal the noise of each too; the diagonal is the sum of what `tell` tells.
        """
        value, inclined, _ = self.slopes(known, at)
        shape = self.basis(at.place)
        left = matern(at.place, at.place, self.sizes.length) - shape @ shape.T
        np.fill_diagonal(left, np.maximum(np.diag(left), 0))
        out = inclined @ known.covariance @ np.swapaxes(inclined, 1, 2)
        out = out + known.departure[:, None, None] ** 2 * left
        return out + self._noise(known, value, at)[:, :, None] * np.eye(len(shape))


@dataclass(frozen=True)
class _Tasks:
    """Laws with discrepancies that are fitted side by side, each to its own part of the rows."""

    of: Explainer
    used: np.ndarray  # [tasks, rows]: 0 or 1
    middle: np.ndarray  # [tasks, free], and
    precision: np.ndarray  # of what is known before

    def repeated(self, which: np.ndarray) -> "_Tasks":
        """Tasks by their numbers."""
        return _Tasks(self.of, self.used[which], self.middle[which], self.precision[which])

    def curve(self, at: np.ndarray) -> tuple[Any, Any]:
        """Curves [tasks, rows] and slopes of the law alone."""
        return self.of.curve(at[:, : self.middle.shape[1]], self.of.rows.columns)

    def scatter(self, at: np.ndarray, noisy: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Robust standard deviation of a typical run about the law [tasks]."""
        free, out = self.middle.shape[1], []
        gap = np.abs(self.of.rows.target - self.curve(at)[0]) / np.sqrt(noisy)
        for one, part, least in zip(gap, self.used > 0, 2e-3 * spread, strict=True):
            rows = int(part.sum())
            found = 1.4826 * np.median(one[part]) * np.sqrt(rows / max(rows - free, 1))
            out.append(max(found, least, 1e-12))
        return np.array(out)

    def _stand(
        self, at: np.ndarray, departure: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Minus the log posterior density [tasks] (Student noise), residuals and slopes."""
        free, shape = self.middle.shape[1], self.of.shape
        value, slopes = self.curve(at)
        wide = departure[:, None, None] * shape[None]
        gap = self.of.rows.target - value - np.einsum("trb,tb->tr", wide, at[:, free:])
        slopes = np.concatenate([slopes, wide], axis=2)
        rows = self.used * np.log1p(gap**2 / (TAIL * variance))
        total = (TAIL + 1) * rows.sum(axis=1) + (at[:, free:] ** 2).sum(axis=1)
        total = total + (self.precision * (at[:, :free] - self.middle) ** 2).sum(axis=1)
        return np.where(np.isfinite(total), total / 2, np.inf), gap, slopes

    def _matrix(
        self, at: np.ndarray, gap: np.ndarray, slopes: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Curvature and downward slope of the log posterior density; outliers weigh less (Lange,
        Little & Taylor 1989, J. Am. Statist. Assoc. 84, 881, section 3).
        """
        free = self.middle.shape[1]
        weight = self.used * (TAIL + 1) / (TAIL * variance + gap**2)
        weighed = slopes * weight[:, :, None]
        before = np.concatenate([self.precision, np.ones_like(at[:, free:])], axis=1)
        off = at - np.concatenate([self.middle, np.zeros_like(at[:, free:])], axis=1)
        matrix = np.swapaxes(weighed, 1, 2) @ slopes
        matrix = matrix + before[:, :, None] * np.eye(at.shape[1])
        return matrix, np.einsum("trp,tr->tp", weighed, gap) - before * off

    def solve(
        self, at: np.ndarray, departure: np.ndarray, noise: np.ndarray, noisy: np.ndarray,
        steps: int,
    ) -> np.ndarray:  # fmt: skip
        """The most probable coordinates [tasks, free + basis]."""
        variance = noise[:, None] ** 2 * noisy
        damping = np.full(len(at), 1e-3)
        total, gap, slopes = self._stand(at, departure, variance)
        for _ in range(steps):
            matrix, down = self._matrix(at, gap, slopes, variance)
            diagonal = np.einsum("tpp->tp", matrix)
            damped = matrix + (damping[:, None] * diagonal)[:, :, None] * np.eye(at.shape[1])
            step = np.linalg.solve(damped, down[:, :, None])[:, :, 0]
            trial = at + np.clip(step, -1, 1)
            new, new_gap, new_slopes = self._stand(trial, departure, variance)
            better = new < total
            if not (total - new > 1e-5 * np.maximum(total, 1.0)).any() and better.any():
                break
            at = np.where(better[:, None], trial, at)
            gap, slopes = (np.where(better[:, None], new_gap, gap),
                           np.where(better[:, None, None], new_slopes, slopes))  # fmt: skip
            total = np.where(better, new, total)
            damping = np.where(better, np.maximum(damping / 5, 1e-9), np.minimum(damping * 5, 1e9))
        return at

    def laplace(
        self, at: np.ndarray, departure: np.ndarray, noise: np.ndarray, noisy: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Covariance of the coordinates and log evidence, by Laplace's approximation; residuals."""
        variance = noise[:, None] ** 2 * noisy
        total, gap, slopes = self._stand(at, departure, variance)
        matrix, _ = self._matrix(at, gap, slopes, variance)
        evidence = -total - 0.5 * np.linalg.slogdet(matrix)[1]
        evidence += 0.5 * np.log(self.precision).sum(axis=1)
        evidence -= 0.5 * (self.used * np.log(variance)).sum(axis=1)
        return np.linalg.inv(matrix), evidence, gap / np.sqrt(variance)


def reducible(curve: Curve, at: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The share of the loss (in linear space: the loss) that is above the floor [tasks, rows]."""
    floor = curve.floor(at)[:, None]
    if curve.space == "log":
        return np.maximum(1 - floor * np.exp(-value), 0.02)
    return np.maximum(value - floor, 0.02 * np.abs(value).max())


def _relative(share: np.ndarray, typical: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """Variance of the noise where a share is reducible, of that of a typical run [tasks, rows]."""
    return np.clip(share / typical[:, None], 0.1, 10) ** (2 * growth[:, None])


def growth_of(gap: np.ndarray, share: np.ndarray, sizes: Sizes) -> float:
    """The power of the reducible share (its log, [rows]) that the size of the gaps follows."""
    best, found = -np.inf, 0.0
    for power in GROWTHS:
        scaled = gap / np.exp(power * share)
        scale = max(1.4826 * float(np.median(scaled)), 1e-9)
        fitness = -len(gap) * np.log(scale) - power * share.sum()
        fitness -= (TAIL + 1) / 2 * np.log1p((scaled / scale) ** 2 / TAIL).sum()
        fitness -= 0.5 * ((power - sizes.growth) / sizes.growth_sd) ** 2
        best, found = (fitness, float(power)) if fitness > best else (best, found)
    return found
