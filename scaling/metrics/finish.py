"""From the statistics of an evaluation's rows to numbers, with standard errors. NumPy only.

Takes float64 arrays, one entry a row (window, image) of the evaluation set, and the `Metric`s that
say how their sums are finished; gives plain floats. The rows are the sample: what lies within one
(the tokens of a window) is not independent. The evaluator calls it.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from scaling.config.contracts import Metric

MAIN = "loss"  # the one mean that has a standard error
# Groups of the jackknife: the standard error is then known to 1 / sqrt(2 * 49) = 10 %, for 51 calls
# of a `finish`.
GROUPS = 50

# W rows of a statistic [W, *shape]; of a mean, [W, 2] or the pair (totals [W], counts [W]).
Statistics = np.ndarray | tuple[np.ndarray, np.ndarray]


def finish(rows: Mapping[str, Statistics], metrics: Mapping[str, Metric]) -> dict[str, float]:
    """The number of every entry of `rows`, then the standard errors, `<name>_se`.

    A metric without a `finish`, or a name that `metrics` does not have, is a mean: sum of totals /
    sum of counts. Of those "loss" alone has a standard error (`ratio_error`). Every metric with a
    `finish` has one, by the jackknife (`jackknife_error`).

    Rows of zeros only fill up a batch: they are no part of the sample. NaN is what cannot be said:
    a number without a row that counts, a standard error from fewer than two.
    """
    numbers: dict[str, float] = {}
    errors: dict[str, float] = {}
    with np.errstate(all="ignore"):
        for name, statistics in rows.items():
            of = metrics[name].finish if name in metrics else None
            if of is None:
                totals, counts = _columns(name, statistics)
                numbers[name] = float(totals.sum() / counts.sum())
                if name == MAIN:
                    errors[f"{name}_se"] = ratio_error(totals, counts)
            else:
                used = _used(statistics)
                numbers[name] = float(of(used.sum(axis=0))) if len(used) else math.nan
                errors[f"{name}_se"] = jackknife_error(used, of)
    return numbers | errors


def mean(sums: np.ndarray) -> float:
    """Of (total, count): the `finish` of a mean that has a standard error, too."""
    return float(sums[0] / sums[1])


def best(sums: np.ndarray) -> float:
    """The largest of means (total, count), of an array [..., 2] of them."""
    return float((sums[..., 0] / sums[..., 1]).max())


def gain(sums: np.ndarray) -> float:
    """The first of two means less the second, of (total, count) each: [2, 2]."""
    return float(np.subtract(*(sums[:, 0] / sums[:, 1])))


def r_squared(sums: np.ndarray) -> float:
    """Explained variance: 1 - squared error / squared distance of the targets from their means,
    each summed over examples and targets; 1 at best, 0 for the mean of the evaluated set.

    `sums`: [T, 4] of `statistics.explained`. NaN where no target varies.
    """
    count, total, square, error = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        around_mean = np.sum(square - total**2 / count)
    return float(1 - error.sum() / around_mean) if around_mean > 0 else float("nan")


def ratio_error(totals: np.ndarray, counts: np.ndarray) -> float:
    """Standard error of sum(totals) / sum(counts), both [W]; NaN of fewer than two rows.

    The variance is W / (W - 1) sum((l_i - mean c_i)^2) / sum(c_i)^2, the linearised ratio estimator
    (Cochran, Sampling Techniques, section 6.3; no finite-population correction). Rows with c_i = 0
    are no part of the sample.
    """
    mean = float(totals.sum() / counts.sum())
    used = counts > 0
    totals, counts = totals[used], counts[used]
    size = len(counts)
    if size < 2:
        return math.nan
    residuals = totals - mean * counts
    variance = size / (size - 1) * np.sum(residuals**2) / counts.sum() ** 2
    return math.sqrt(variance)


def jackknife_error(
    statistics: np.ndarray, of: Callable[[np.ndarray], float], groups: int = GROUPS
) -> float:
    """Standard error of `of(sum of statistics)`, by leaving out one group of rows after the other.

    G groups of equal size (or one row more), neighbours together, G = W up to `groups`; the
    variance is (G - 1) / G sum_g (of(all but g) - of(all))^2 (Efron 1982, The Jackknife, the
    Bootstrap and Other Resampling Plans, chapter 3; Kott 2001, The delete-a-group jackknife,
    Journal of Official Statistics 17(4), about the estimate of all rows). Of a mean with G = W and
    equal counts it is `ratio_error` exactly; with counts c_i that differ, each squared residual is
    multiplied by ((1 - 1/W) / (1 - c_i / sum c))^2, which is 1 up to O(1/W). With G < W the
    variance has the same expectation, to that order, and the noise of G - 1 degrees of freedom.
    Right for smooth functions of sums; at a kink (a calibration error near 0) not to be relied on.

    Args:
      statistics: [W, *shape], of rows that count.
      of: of an array of that shape; NaN where it can say nothing.

    Returns:
      NaN of fewer than two rows, and where `of` is not finite without one of the groups.
    """
    count = min(len(statistics), groups)
    if count < 2:
        return math.nan
    starts = np.arange(count) * len(statistics) // count
    parts, whole = np.add.reduceat(statistics, starts, axis=0), statistics.sum(axis=0)
    spread = np.array([of(whole - part) for part in parts], np.float64) - of(whole)
    variance = (count - 1) / count * np.sum(spread**2)
    return math.sqrt(variance) if np.isfinite(variance) else math.nan


def _columns(name: str, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Totals and counts of a mean, each [W]; contiguous, for one order of adding."""
    if not isinstance(statistics, tuple):
        array = np.asarray(statistics, np.float64)
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{name}: rows of shape {array.shape[1:]} are no (total, count)")
        statistics = array[:, 0], array[:, 1]
    totals, counts = (np.ascontiguousarray(column, np.float64) for column in statistics)
    return totals, counts


def _used(statistics: Statistics) -> np.ndarray:
    """float64 [W', *shape]: the rows that are not zeros."""
    if isinstance(statistics, tuple):
        statistics = np.stack(statistics, axis=1)
    array = np.asarray(statistics, np.float64)
    return array[np.any(array != 0, axis=tuple(range(1, array.ndim)))]
