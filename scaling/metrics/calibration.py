"""How far a model's confidence is from how often it is right. NumPy only.

`statistics.calibration` and `statistics.brier` give what is added up.
"""

import numpy as np

BINS = 15  # as in Guo et al. 2017


def expected_error(bins: np.ndarray) -> float:
    """Expected calibration error, between 0 and 1: the mean over examples of |accuracy -
    confidence| of their bin (Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3).

    `bins`: [bins, 3], count, sum of confidences, number of correct ones; NaN if it is empty. Of few
    examples it is too large, since chance alone parts the two in every bin: by up to 0.4 / sqrt(
    examples of a bin) where the truth is 0; the jackknife's standard error is then too large as
    well, by a factor of up to 1.7, and right once bins are off by more than chance.
    """
    count, confidence, correct = np.moveaxis(bins, -1, 0)
    total = count.sum()
    # The share of a bin and the division by its count cancel: an empty one adds 0, not 0 / 0.
    return float(np.abs(confidence - correct).sum() / total) if total > 0 else float("nan")


def reliability(bins: np.ndarray) -> np.ndarray:
    """[bins, 3]: share of the examples, mean confidence, accuracy, NaN in bins without examples:
    what a reliability diagram shows. `bins`: as of `expected_error`.
    """
    count = bins[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate([count / count.sum(), bins[:, 1:] / count], axis=1)
