"""A linear read-out of frozen features, solved from sums. NumPy float64 only.

`statistics.second_moments` of `statistics.augmented(features, targets)` gives the sums, a matrix
[1 + F + T, 1 + F + T] of Z^T Z, where a row of Z is (1, features, targets). `solve` fits the
read-out to those of the training set; `statistics.hits` scores it on held-out labels, and
`mean_squared_error` on held-out sums.
"""

import math

import numpy as np

# Products of float32 numbers do not tell an eigenvalue below this share of the largest from 0.
_NOISE = float(np.finfo(np.float32).eps)


def solve(sums: np.ndarray, features: int, l2: float = 0.0) -> np.ndarray:
    """Coefficients [1 + F, T], the first row the intercept, that minimise

        mean over examples of |targets - intercept - features @ w|^2  +  l2 |w|^2.

    Ridge regression in closed form (Hoerl and Kennard 1970) with a free intercept; `l2` in squared
    units of the features (scikit-learn's `alpha` is l2 times the number of examples). Directions in
    which the features do not vary get no weight, so that l2 = 0 is least squares of smallest norm.
    NaN if there are no examples, or sums that are not finite.
    """
    count, mean = sums[0, 0], sums[0, 1:]
    if count <= 0 or not np.isfinite(sums).all():
        return np.full((1 + features, len(mean) - features), np.nan)
    mean = mean / count
    covariance = sums[1:, 1:] / count - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(covariance[:features, :features])
    # The noise is that of the sums before the mean is taken off.
    floor = _NOISE * np.max(np.diag(sums)[1 : 1 + features], initial=0) / count
    kept = values > floor
    values, vectors = values[kept], vectors[:, kept]
    w = vectors @ ((vectors.T @ covariance[:features, features:]) / (values + l2)[:, None])
    return np.concatenate([(mean[features:] - mean[:features] @ w)[None], w])


def relative(sums: np.ndarray, features: int, ridge: float) -> np.ndarray:
    """`solve` with l2 = ridge x the mean over features of their variance, so that their scale does
    not matter.
    """
    if sums[0, 0] <= 0:
        return solve(sums, features)
    count, mean = sums[0, 0], sums[0, 1 : 1 + features] / sums[0, 0]
    variance = np.diag(sums)[1 : 1 + features] / count - mean**2
    return solve(sums, features, ridge * max(0.0, float(variance.mean())))


def uncentred(sums: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Sums of (1, features, targets) from those of (1, features - mean, targets); float64."""
    back = np.eye(len(sums))
    back[1 : 1 + len(mean), 0] = mean
    return back @ np.asarray(sums, np.float64) @ back.T


def mean_squared_error(sums: np.ndarray, coefficients: np.ndarray) -> float:
    """Mean over examples of |targets - intercept - features @ w|^2, from their `sums`."""
    if sums[0, 0] <= 0:
        return math.nan
    residuals = np.concatenate([coefficients, -np.eye(coefficients.shape[1])])  # Z times it
    return float(np.sum(residuals * (sums @ residuals)) / sums[0, 0])
