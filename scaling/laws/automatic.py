"""Which law a table calls for: all that its columns allow, compared by backtest.

`choose` fits each below every cut of one column and predicts the runs above; the least interval
score wins, over the cuts that all of them predict. Called by `fit_command.py` for `--law=auto`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.backtests import Backtest, backtest, interval_score
from scaling.laws.checks import known_law
from scaling.laws.law import GROWING, Law
from scaling.laws.measures import amounts_of
from scaling.laws.options import Options
from scaling.laws.rows import groups_of, numbers

DRAWS = 100  # resamples of each fit of a comparison
SPARE = 3  # points more than parameters that a law needs to be compared
OF_ONE = ("power", "power_floor", "broken_power", "m3", "m4")  # laws of one column (m1, m2 again)
FEW_CUTS = 6  # a comparison of many laws needs no more


@dataclass(frozen=True)
class Choice:
    """The law that predicts best, and how the others do."""

    law: str
    # Best first: law, parameters, predictions, median_error (in %), held (share of runs in the
    # intervals), score (mean interval score in %), note (why a law is not compared).
    table: pd.DataFrame
    by: str  # column that was cut
    tests: Mapping[str, Backtest] = field(default_factory=dict)  # of the laws with a score

    @property
    def sentence(self) -> str:
        """Which, and by how much."""
        rows = self.table[self.table.score.notna()]
        told = f"--law=auto: {self.law} of {len(rows)} laws, by backtests over {self.by}"
        if len(rows) > 1:
            second = rows.iloc[1]
            told += f"; interval score {rows.score.iloc[0]:.3g} %, next {second.law} "
            told += f"{second.score:.3g} %"
        return told


def candidates(table: pd.DataFrame, options: Options) -> list[str]:
    """Laws of what is predicted whose columns the table has, each varying, with points enough.

    Raises UserError when there is none.
    """
    from scaling.laws import LAWS  # the package's `__init__` comes first

    own = []
    if options.x == Options().x:
        several = [n for n, law in LAWS.items() if law.columns != ("x",)]
        own = [n for n in several if _allowed(table, LAWS[n], options)]
    if not own:
        own = [n for n in OF_ONE if _allowed(table, LAWS[n], options)]
    if not own:
        columns = ", ".join(str(c) for c in table.columns)
        raise UserError(
            f"--law=auto: no law reads the columns of this table ({columns}) with points enough; "
            "name its columns with --columns and --derive as the laws do, or give --law and --x"
        )
    return own


def _allowed(table: pd.DataFrame, law: Law, options: Options) -> bool:
    """Whether the law can be compared on the table."""
    if law.target != _target(options):
        return False
    names = {"x": options.x} if law.columns == ("x",) else amounts_of(law, table)
    read = [str(names.get(c, c)) for c in law.needs or law.columns]
    loss = options.loss or law.target
    if not {*read, loss} <= {*map(str, table.columns)} or set(options.fixed) - set(law.names):
        return False
    rows = table[np.isfinite(numbers(table, loss))]
    if law.prepare:
        return len(rows) >= len(law.names) + SPARE
    columns = {c: numbers(rows, c) for c in read}
    optional = {names.get(c, c) for c in law.optional}
    if any(len(v) == 0 or not np.isfinite(v).all() for v in columns.values()):
        return False
    if any(np.ptp(v) == 0 and c not in optional for c, v in columns.items()):
        return False
    zeros = {names.get(c, c) for c in law.zeros}
    if any((v < 0).any() or (c not in zeros and (v == 0).any()) for c, v in columns.items()):
        return False
    return int(groups_of(columns).max()) + 1 >= len(law.names) + SPARE


def _target(options: Options) -> str:
    """What the laws must predict: a column that no law names is a loss under another name."""
    from scaling.laws import LAWS

    targets = {law.target for law in LAWS.values()}
    return options.loss if options.loss in targets else "loss"


def choose(
    table: pd.DataFrame,
    options: Options | None = None,
    *,
    laws: Sequence[str] | None = None,
    by: str | None = None,
) -> Choice:
    """The law of least interval score in backtests.

    Args:
      table: one row a run.
      options: as in `fit`.
      laws: to be compared; None: `candidates`.
      by: column that is cut; None: flops, params, or the first column that the laws read.

    Raises UserError when no law can be compared.
    """
    options = options or Options()
    laws = list(laws or candidates(table, options))
    by = by or _column(table, known_law(laws[0]), options)
    done, rows = dict[str, Backtest](), []
    few = replace(options, bootstrap=min(options.bootstrap or DRAWS, DRAWS))
    for name in laws:
        row = {"law": name, "parameters": len(known_law(name).names)}
        try:
            done[name] = backtest(table, name, few, by=by, cuts=FEW_CUTS)
        except UserError as e:
            row["note"] = str(e)
        rows.append(row)
    if not done:
        raise UserError(f"--law=auto: no law can be compared: {rows[0]['note']}")
    # Where few runs lie below, only small laws predict, and all predict worst: cuts of all alone.
    # A law that can do with no cut of the others is not compared.
    common = set.intersection(*(set(d.rows.below) for d in done.values()))
    if not common:
        most = max(done.values(), key=lambda d: d.rows.below.nunique())
        common = set(most.rows.below)
    for row in rows:
        if (one := done.get(str(row["law"]))) is None:
            continue
        part = one.rows[one.rows.below.isin(common)]
        if set(part.below) != common:
            row["note"] = "too few runs below the cuts of the others"
            continue
        scores = part.assign(score=interval_score(part, one.level))
        row |= {
            "predictions": len(part), "median_error": 100 * float(part.error.abs().median()),
            "held": float(part.held.mean()),
            "score": 100 * float(scores.groupby("below").score.mean().mean()),
        }  # fmt: skip
    compared = pd.DataFrame(rows).sort_values("score", kind="stable").reset_index(drop=True)
    scored = [str(law) for law in compared.law[compared.score.notna()]]
    return Choice(scored[0], compared, by, {law: done[law] for law in scored})


def _column(table: pd.DataFrame, law: Law, options: Options) -> str:
    """The column whose growth is extrapolation, for all laws alike."""
    for name in ("flops", "params"):
        if name in table.columns:
            return name
    if law.columns == ("x",):
        return str(options.x)
    read = law.needs or law.columns
    return next((c for c in read if c in GROWING or c == "step"), read[0])
