"""Draws of the parameters that say how well they are known: bootstrap by cases or by residuals.

Takes a fitted problem and gives draws [draws, free], the noise that was estimated, and the name of
the method. Every resample is refitted from two starts (the fit itself, and the best of the starting
grid on that resample), all in the same compiled program as the fit. Called by `fitting.py`.
"""

from dataclasses import dataclass, replace

import numpy as np

from scaling.errors import UserError
from scaling.laws.minimize import minimize
from scaling.laws.outcomes import Noise
from scaling.laws.problem import Problem, predict
from scaling.laws.rows import groups_of
from scaling.laws.starts import Screen

CASES_FROM = 60  # residual degrees of freedom from which resampling rows is trusted
FEW_CLUSTERS = 15  # fewer than this, and resampling them understates the spread
ITERATIONS = 200  # of a refit, at most
SIGNIFICANT = 0.2  # of the F test of lack of fit against replicates


@dataclass(frozen=True)
class Draws:
    """Parameters of refitted resamples."""

    values: np.ndarray  # [draws, free], natural scale
    noise: Noise
    method: str
    flags: tuple[str, ...] = ()


def estimate_noise(
    problem: Problem, residual: np.ndarray, count: int
) -> tuple[Noise, tuple[str, ...]]:
    """Scatter about the law; where points are replicated, seed noise and lack of fit apart.

    Args:
      problem: for its rows and weights (weights are relative precisions, mean 1).
      residual: target minus fitted [rows].
      count: parameters fitted.
    """
    group, weight = groups_of(dict(problem.columns)), problem.weight
    rows, points = len(residual), int(group.max()) + 1
    dof = rows - count
    if dof <= 0:
        return Noise(0.0, 0), ("there are no more runs than parameters: the noise is unknown",)
    pooled = float(np.sum(weight * residual**2) / dof)
    pure_dof, lack_dof = rows - points, points - count
    if pure_dof < 2:
        return Noise(pooled**0.5, dof), ()
    size = np.bincount(group, weight)
    centre = np.bincount(group, weight * residual) / size
    pure = float(np.sum(weight * (residual - centre[group]) ** 2)) / pure_dof
    replicate = {"replicate_sd": pure**0.5, "replicate_dof": pure_dof}
    if lack_dof <= 0:
        flag = "as many parameters as distinct points: lack of fit cannot be seen"
        return Noise(pure**0.5, pure_dof, **replicate), (flag,)
    from scipy.special import fdtrc  # slow to import, needed by few tables

    lack = float(np.sum(size * centre**2)) / lack_dof
    if pure > 0 and fdtrc(lack_dof, pure_dof, lack / pure) > SIGNIFICANT:
        return Noise(pooled**0.5, dof, **replicate), ()
    typical = points / float(np.sum(1 / size))
    between = max(0.0, (lack - pure) / typical) ** 0.5
    flag = (
        f"runs of one point differ by {pure**0.5:.2g}, the points miss the law by {between:.2g}: "
        "the law does not hold exactly, and the intervals allow for that"
    )
    noise = Noise(pooled**0.5, dof, **replicate, between_sd=between, between_dof=lack_dof)
    return noise, (flag,)


def _residual_targets(
    problem: Problem, fitted: np.ndarray, noise: Noise, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Targets [draws, rows]: the fit plus noise whose scale is drawn too, from its chi-square."""
    rows = len(fitted)

    def scale(sd: float, dof: int) -> np.ndarray:
        return sd * np.sqrt(dof / rng.chisquare(dof, (draws, 1)))

    if noise.between_sd > 0 and noise.replicate_sd is not None:
        group = groups_of(dict(problem.columns))
        size = np.bincount(group)
        typical = len(size) / float(np.sum(1 / size))
        lack = noise.between_sd**2 + noise.replicate_sd**2 / typical
        total = scale(lack**0.5, noise.between_dof) ** 2
        seed = scale(noise.replicate_sd, noise.replicate_dof)
        between = np.sqrt(np.maximum(total - seed**2 / typical, 0))
        shift = between * rng.normal(size=(draws, len(size)))
        return fitted + shift[:, group] + seed * rng.normal(size=(draws, rows))
    residual = problem.target - fitted
    spread = residual * np.sqrt(problem.weight)
    if noise.dof >= CASES_FROM:
        spread = (spread - spread.mean()) / np.sqrt(np.mean((spread - spread.mean()) ** 2))
        change = rng.choice(spread, (draws, rows))
    else:
        change = rng.normal(size=(draws, rows))
    return fitted + scale(noise.sd, noise.dof) * change / np.sqrt(problem.weight)


def bootstrap(
    problem: Problem,
    best: np.ndarray,
    screen: Screen,
    *,
    draws: int,
    method: str,
    cluster: np.ndarray | None,
    seed: int,
    iterations: int = ITERATIONS,
) -> Draws:
    """Refit `draws` resamples.

    Args:
      problem: the table and the law.
      best: coordinates of the fit [free].
      screen: the starting grid.
      draws: how many resamples.
      method: "cases" (rows, or whole clusters), "residual", or "auto": cases when there are
        clusters or at least CASES_FROM more rows than parameters, else residual.
      cluster: label of each row [rows]; rows of one label are resampled together.
      seed: of the resampling.
      iterations: at most so many a refit; one that is not done stays where it stands.

    Raises UserError when all rows are of one cluster.
    """
    rng = np.random.default_rng(seed)
    rows, count = len(problem.target), len(problem.free)
    fitted = predict(problem, best[None], problem.columns)[0]
    fitted = np.log(fitted) if problem.space == "log" else fitted
    noise, flags = estimate_noise(problem, problem.target - fitted, count)
    if method == "auto":
        many = cluster is not None or rows - count >= CASES_FROM
        method = "cases" if many else "residual"
    if draws == 0 or noise.dof <= 0:
        return Draws(np.zeros((0, count)), noise, "none", flags)
    if method == "cases":
        label = np.arange(rows) if cluster is None else cluster
        kinds = int(label.max()) + 1
        if cluster is not None and kinds < 2:
            raise UserError(
                "--cluster: all rows are of one cluster, which gives no intervals; leave "
                "--cluster out, or fit with --bootstrap=0"
            )
        counts = _resampled(kinds, draws, seed)
        if cluster is not None and kinds < FEW_CLUSTERS:
            flags += (f"only {kinds} clusters: intervals from so few are too narrow",)
        weights = counts[:, label] * problem.weight
        targets = np.broadcast_to(problem.target, weights.shape)
        name = f"bootstrap of {kinds} " + ("rows" if cluster is None else "clusters")
    else:
        targets = _residual_targets(problem, fitted, noise, draws, rng)
        weights = np.broadcast_to(problem.weight, targets.shape)
        name = "residual bootstrap, scale drawn from its chi-square (small-sample t)"
    # Resamples of a nearly absolute loss need no sharper corner than a hundredth of the scatter.
    smooth = max(problem.delta, min(1e-4, 0.01 * noise.sd))
    rough = replace(problem, delta=smooth)
    found = refit(rough, best, screen, targets, weights, iterations)
    return Draws(problem.values(found), noise, f"{name}, {draws} resamples, percentile", flags)


def _resampled(kinds: int, draws: int, seed: int) -> np.ndarray:
    """How often each of `kinds` things is drawn [draws, kinds].

    By NumPy's older generator: published analyses drew with it, so that the same seed gives the
    same resamples (42 for Besiroglu et al. 2024) and standard errors compare digit by digit.
    """
    drawn = np.random.RandomState(seed).choice(kinds, (draws, kinds))
    flat = drawn + kinds * np.arange(draws)[:, None]
    return np.bincount(flat.reshape(-1), minlength=draws * kinds).reshape(draws, kinds)


def refit(
    problem: Problem, best: np.ndarray, screen: Screen, targets: np.ndarray, weights: np.ndarray,
    iterations: int = ITERATIONS,
) -> np.ndarray:  # fmt: skip
    """The better of two minima for every resample [draws, free]: one from `best`, one from the
    best point of the starting grid, judged on that resample.
    """
    draws = len(targets)
    second = np.concatenate(
        [screen.best(targets[i : i + 500], weights[i : i + 500])
         for i in range(0, draws, 500)]
    )  # fmt: skip
    starts = np.concatenate([np.repeat(best[None], draws, axis=0), second])
    # In a few of 4,000 resamples the wide delta leads to a lower minimum that a narrow one misses.
    first_delta = np.repeat([0.0, 0.02], draws)
    first_delta = np.maximum(first_delta, 0.02 if problem.delta < 1e-4 else 0.0)
    minima = minimize(
        problem,
        starts,
        targets=np.concatenate([targets, targets]),
        weights=np.concatenate([weights, weights]),
        first_delta=first_delta,
        iterations=iterations,
    )
    objective = minima.objective.reshape(2, draws)
    coordinates = minima.coordinates.reshape(2, draws, -1)
    return np.where((objective[0] <= objective[1])[:, None], coordinates[0], coordinates[1])
