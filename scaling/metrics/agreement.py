"""How well classes that were said agree with the true ones, class by class. NumPy only.

The statistic is [C, 3] of every class: how often it was said rightly, said, and true.
"""

import numpy as np


def macro_f1(sums: np.ndarray) -> float:
    """Mean over the classes that are true somewhere of 2 right / (said + true), the harmonic mean
    of precision and recall; NaN where none is.
    """
    right, said, true = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    there = true > 0
    if not there.any():
        return float("nan")
    return float(np.mean(2 * right[there] / (said + true)[there]))
