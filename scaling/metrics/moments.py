"""Mean and covariance of features from their sums, and how far two sets of them are apart.

NumPy only. `statistics.second_moments` of `statistics.augmented` features gives the sums: a
symmetric matrix [1 + F, 1 + F] of count, sums and sums of products. Two sets, such as a GAN's
samples and real images under one classifier's features, are stacked to one statistic [2, 1 + F,
1 + F], whose `finish` is `frechet`.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """float64 mean [F] and covariance [F, F]."""

    mean: np.ndarray
    covariance: np.ndarray


def gaussian(sums: np.ndarray) -> Gaussian:
    """Mean and covariance (with n - 1, as `numpy.cov`) of [1 + F, 1 + F]; NaN of n <= 1."""
    count, total, products = float(sums[0, 0]), sums[0, 1:], sums[1:, 1:]
    if count <= 1:
        return Gaussian(np.full(total.shape, np.nan), np.full(products.shape, np.nan))
    mean = total / count
    return Gaussian(mean, (products - count * np.outer(mean, mean)) / (count - 1))


def frechet(pair: np.ndarray) -> float:
    """`frechet_distance` of the two sets of a statistic [2, 1 + F, 1 + F]."""
    return frechet_distance(gaussian(pair[0]), gaussian(pair[1]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), in squared units of the features; NaN if a
    number is not finite.

    The square of the Wasserstein-2 distance of two Gaussians (Dowson and Landau 1982), which is
    what papers print as the Frechet inception distance (Heusel et al. 2017), here of any features.
    The trace of (A B)^(1/2) is the sum of the singular values of R^T S, where A = R R^T and
    B = S S^T. With n examples it is too large by a term that falls as 1 / n: compare sets of one
    size.
    """
    if not all(np.isfinite(x).all() for g in (a, b) for x in (g.mean, g.covariance)):
        return math.nan
    overlap = np.linalg.svd(_root(a.covariance).T @ _root(b.covariance), compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def _root(covariance: np.ndarray) -> np.ndarray:
    """R with R R^T = covariance; eigenvalues that rounding made negative are 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))
