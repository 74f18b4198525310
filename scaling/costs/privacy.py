"""What a run with clipped and noised gradients reveals of one example: its epsilon.

Rényi differential privacy of the Gaussian mechanism on a Poisson sample of the data, composed over
the updates (Mironov, Talwar and Zhang 2019, arXiv 1908.10530, section 3.3, for whole orders), and
read as (epsilon, delta) (Balle et al. 2020, arXiv 1905.09982, theorem 21). The package
dp-accounting has the same; its pins (attrs below 24) do not install beside this project's other
dependencies, so the tests hold these numbers against some that it gave. Called by the tables.
"""

import numpy as np
from scipy.special import gammaln, logsumexp

ORDERS = (*range(2, 64), *range(64, 257, 8), 512, 1024)


def epsilon(rate: float, noise: float, steps: int, delta: float) -> float:
    """An upper bound, by the best of the orders; infinite without noise.

    Args:
      rate: share of the examples in an update, each of which is in it independently of the others.
        Batches of a reshuffled epoch are none such: the number is then the one in common use, and
        no proof.
      noise: standard deviation of the noise over the norm that gradients are clipped to.
      steps: updates.
      delta: chance of failure, below one over the number of examples.
    """
    if noise == 0:
        return float("inf")
    found = []
    for order in ORDERS:
        divergence = steps * _renyi(rate, noise, order)
        found.append(
            divergence + np.log1p(-1 / order) - (np.log(delta) + np.log(order)) / (order - 1)
        )
    return float(max(0.0, min(found)))


def _renyi(rate: float, noise: float, order: int) -> float:
    """Of one update."""
    if rate >= 1:
        return order / (2 * noise**2)
    k = np.arange(order + 1)
    binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms = binomial + k * np.log(rate) + (order - k) * np.log1p(-rate)
    return float(logsumexp(terms + k * (k - 1) / (2 * noise**2)) / (order - 1))
