"""What theory says of the parameters of a fitted law, as the rows of a table have it.

Tables of runs on data of a known law have its floor and its exponents beside what was measured
(`scaling/records/tables.py`: `truth`, `true_floor`, `true_exponent/<column>`). Takes the rows and
the law; gives parameter -> truth. Called by `fitting.py`; the report draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import pandas as pd

from scaling.laws.law import Law
from scaling.laws.measures import unit_of

# Laws whose exponents are, in this order, those that the distance from the floor falls with in
# their columns. (Of the others an exponent is one at the start, or of something else.)
_FALL = ("power", "power_floor", "compute", "m1", "m2", "chinchilla", "width_depth_tokens")


@dataclass(frozen=True)
class Known:
    """Of some parameters of a law, the true value and its standard error (0: exact)."""

    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    source: str = ""  # whose theory

    def __bool__(self) -> bool:
        return bool(self.values)

    def holds(self, name: str, value: float, interval: tuple[float, float], level: float) -> bool:
        """Whether an interval about a fitted value, made wider by the truth's own error, has it."""
        true, unsure = self.values[name]
        side = interval[0] if true < value else interval[1]
        more = NormalDist().inv_cdf((1 + level) / 2) * unsure
        return bool(abs(true - value) <= np.hypot(side - value, more))

    def off(self, name: str, value: float, error: float) -> float:
        """By how many standard errors a fitted value, known to `error`, lies above the truth."""
        true, unsure = self.values[name]
        both = float(np.hypot(error, unsure))
        return (value - true) / both if both > 0 else float("nan")


def truth_of(table: pd.DataFrame, law: Law, names: Mapping[str, str], loss: str) -> Known:
    """What the rows say is true of the law's parameters, where all of them say the same.

    What is fitted is either what the truth is of (`truth_of`), or its distance from the true floor,
    as `--derive` makes it of a share that tends to 1; that one tends to 0. Where all rows were
    evaluated on the same examples, the floor there is another than on all that there are, by an
    error that is theirs and no part of the fit's: it is added to the truth's.
    """
    if "truth" not in table or law.name not in _FALL:
        return Known()
    source, of = _same(table, "truth"), _same(table, "truth_of")
    floor = _same(table, "true_floor")
    if source is None or of not in table:
        return Known()
    if loss != of:
        if floor is None or loss not in table:
            return Known()
        distance = np.abs(table[of].to_numpy(float) - float(floor))
        there = np.isfinite(distance)
        if not np.allclose(table[loss].to_numpy(float)[there], distance[there], atol=1e-9):
            return Known()
        floor = 0.0
    values: dict[str, tuple[float, float]] = {}
    if law.floor and floor is not None:
        values[law.floor] = float(floor), _unsure(table, loss)
    if law.floor or floor == 0.0:  # a law without a floor takes it to be 0
        for exponent, column in zip(law.exponents, law.columns, strict=True):
            known = f"true_exponent/{_counted(names.get(column, column), table)}"
            if known in table and (value := _same(table, known)) is not None:
                values[exponent] = float(value), 0.0
    return Known(values, str(source))


def _unsure(table: pd.DataFrame, loss: str) -> float:
    """Standard error of the true floor, as these rows measure it."""
    error, measured = float(_same(table, "true_floor_se") or 0.0), f"{loss}_se"
    if measured not in table or _same(table, "corpus") is None:
        return error
    return float(np.hypot(error, np.nan_to_num(table[measured].min())))


def _counted(column: str, table: pd.DataFrame) -> str:
    """Amounts stand under their unit's name, too."""
    unit = unit_of(table)
    return {f"{unit}s": "amount", f"unique_{unit}s": "unique"}.get(column, column)


def _same(table: pd.DataFrame, column: str) -> float | str | None:
    """The one value that all rows have."""
    values = table[column].dropna() if column in table else pd.Series(dtype=object)
    return values.iloc[0] if len(values) == len(table) and values.nunique() == 1 else None
