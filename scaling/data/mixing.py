"""Which rows of training are of which data, where several are mixed in given shares.

Takes the numbers of rows, counted from a run's first; gives the data that each is of, and its place
in the stream of those. Called by `batches.py`.
"""

from collections.abc import Iterator, Sequence

import numpy as np


def dealt(
    rows: np.ndarray, shares: Sequence[float]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(which data, where in `rows`, places in the stream of those data) of each that has some.

    Nothing is drawn: of the first n rows the first data have n less floor(n r), r the share of all
    others, and these deal out theirs alike. So shares hold in any stretch of rows, to a row for
    each, the stream of every data is read without a gap, and a share of 0 leaves it as it is.

    Args:
      rows: int64 [R], any of them in any order.
      shares: of the others, in their order; their sum is below 1, the first data have the rest.
    """
    here, at, left = np.arange(len(rows)), np.asarray(rows, np.int64), 1.0
    for which in range(len(shares) + 1):
        rest = sum(shares[which:])
        gone = np.floor(at * (rest / left)).astype(np.int64)
        goes_on = np.floor((at + 1) * (rest / left)).astype(np.int64) > gone
        if not goes_on.all():
            yield which, here[~goes_on], (at - gone)[~goes_on]
        if not goes_on.any():
            return
        here, at, left = here[goes_on], gone[goes_on], rest
