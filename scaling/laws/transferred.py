"""How much data pretraining was worth to tuned runs: the column that the law `transfer` predicts.

Takes a table of runs on one set of data, some from scratch and some tuned; gives those that were
tuned, with the data that a run from scratch needs for the same loss, less what they were tuned on
(Hernandez et al. 2021, arXiv 2102.01293, section 1). Called by `benchmarks/transfer_law.py`.
"""

import numpy as np
import pandas as pd

from scaling.errors import UserError


def transferred(
    table: pd.DataFrame, amount: str = "tuned_tokens", loss: str = "loss", scratch: str = "scratch"
) -> pd.DataFrame:
    """The tuned runs with a column `transferred`, in the unit of `amount`.

    Between runs from scratch of the same `params` the data that a loss needs is a power of it, so
    straight in logarithms. NaN where it lies beyond what they were trained on: less than the least
    or more than the most is not guessed at.

    Args:
      table: a row a run: `params`, `trained` (`scratch`, or what was), the amount, the loss.

    Raises UserError for a table without these columns, or without runs from scratch.
    """
    for column in ("params", "trained", amount, loss):
        if column not in table:
            raise UserError(f"{column} is no column of the table; what data are worth needs it")
    begun = table["trained"] == scratch
    if not begun.any() or begun.all():
        raise UserError(
            f'trained="{scratch}" must be some of the runs, and others tuned: the table has '
            f"{int(begun.sum())} of {len(table)}"
        )
    tuned = table[~begun].copy()
    tuned["transferred"] = np.nan
    for params, runs in table[begun].groupby("params"):
        means = runs.groupby(amount)[loss].mean().cummin()
        # From the smallest loss up; of data that lowered nothing the least is what was needed.
        least = means.reset_index().drop_duplicates(loss)[::-1]
        here = tuned["params"] == params
        losses, amounts = (np.log(least[name].to_numpy(float)) for name in (loss, amount))
        wanted = np.log(tuned.loc[here, loss].to_numpy(float))
        needed = np.exp(np.interp(wanted, losses, amounts, left=np.nan, right=np.nan))
        tuned.loc[here, "transferred"] = needed - tuned.loc[here, amount].to_numpy(float)
    return tuned
