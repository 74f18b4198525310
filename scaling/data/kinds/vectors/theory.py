"""The test loss of random features on the power-law task: what a fitted law should recover.

Takes variances, the size of the model, the examples, the noise and the ridge; gives the expected
loss of least squares on N random features of T examples. Solved by Maloney, Roberts and Sully
(2022, arXiv 2210.16859) by planar diagrams; the form here, for any ridge, is the eigenframework
for random features of Simon, Karkada, Ghosh and Belkin (2023, arXiv 2311.14646, section 4). It
holds as M, N and T grow; small sizes are off by about 1 / |N - T|. Called by tests and studies.
"""

import math
from dataclasses import dataclass

import numpy as np

_HALVINGS = 64  # of an interval of log kappa: more than a float64 has


@dataclass(frozen=True)
class Expected:
    """What is expected of the fitted model, on average over features, teachers and examples."""

    loss: float  # mean square error of a target, the noise of the test targets included
    kappa: float  # variances below it are not learned
    learned: float  # sum over i of lambda_i / (lambda_i + kappa): features learned


def expected(
    variances: np.ndarray, width: int, examples: float, noise: float = 0.0, ridge: float = 0.0
) -> Expected:
    """The loss of sum_j a_j phi_j, phi_j = sum_i u_ji x_i / sqrt(N), u_ji unit Gaussians, where a
    minimises the sum of square errors over the T examples + ridge * |a|^2 (0: the solution of least
    norm, which gradient descent from a = 0 finds).

    With L1 = sum lambda / (lambda + kappa), L2 = sum (lambda / (lambda + kappa))^2, the scale kappa
    solves  ridge = kappa (T - L1) (N - L1) / N, and with a teacher of unit Gaussian weights

        loss = (sum kappa lambda / (lambda + kappa)
                - (N - L1) / (N - L2) sum kappa lambda^2 / (lambda + kappa)^2 + noise^2)
               / (1 - (L2 (N - 2 L1) + L1^2) / (T (N - L2)))

    Without ridge L1 = min(N, T), and without noise the loss is kappa min / (1 - min / max): the
    same with N and T exchanged.

    Args:
      variances: lambda_i [M].
      width: N, random features.
      examples: T; math.inf for the loss of endless data.
      noise: standard deviation of the noise of the targets.
      ridge: as above; with T infinite it changes nothing.

    At N = T without ridge the loss is infinite (unless M is smaller than both).
    """
    if math.isinf(examples):
        ridge = 0.0
    features = int(np.count_nonzero(variances))
    kappa = _kappa(variances[variances > 0], width, examples, ridge)
    share = np.ones(features) if kappa == 0 else variances / (variances + kappa)
    learned = float(share.sum())
    squares = float((share**2).sum())
    # (N - L1) / (N - L2): with kappa = 0 both are the same, also where both are 0.
    ratio = 1.0 if kappa == 0 else (width - learned) / (width - squares)
    bias = float((kappa * share).sum() - ratio * (kappa * share**2).sum())
    # L2 (N - 2 L1) + L1^2 = L2 (N - L2) + (L1 - L2)^2, which does not cancel.
    spread = 0.0 if kappa == 0 else (learned - squares) ** 2 / (width - squares)
    kept = 1.0 - (squares + spread) / examples
    error = bias + noise**2
    loss = error / kept if kept > 1e-12 else (math.inf if error else 0.0)
    return Expected(loss, kappa, learned)


def _kappa(variances: np.ndarray, width: int, examples: float, ridge: float) -> float:
    """The root of ridge = kappa (T - L1) (N - L1) / N, by halving; L1 falls as kappa grows."""
    least = min(width, examples)
    if ridge == 0 and len(variances) <= least:
        return 0.0  # everything is learned

    def above(log_kappa: float) -> bool:
        kappa = math.exp(log_kappa)
        learned = float((variances / (variances + kappa)).sum())
        if ridge == 0:
            return learned < least
        # Where L1 is not below N and T, kappa is too small whatever the ridge.
        return learned < least and kappa * (examples - learned) * (1 - learned / width) > ridge

    low, high = math.log(variances.min()) - 100.0, math.log(variances.sum() + ridge) + 100.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return math.exp((low + high) / 2)


def asymptote(variances: np.ndarray, alpha: float) -> tuple[float, float]:
    """(A, alpha) of loss = A min(N, T)^-alpha where the larger of N and T has no end, without ridge
    and noise, for 1 << min(N, T) << M.

    There L1 is an integral: min = (lambda_1 / kappa)^(1 / (1 + alpha)) (pi / (1 + alpha)) /
    sin(pi / (1 + alpha)), and the loss is kappa min, so the exponent is the alpha of the variances,
    for the width and for the examples alike.
    """
    angle = math.pi / (1.0 + alpha)
    return float(variances[0]) * (angle / math.sin(angle)) ** (1.0 + alpha), alpha
