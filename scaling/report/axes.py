"""What a table of runs varies, and so what its figures have on their axes, and which curves.

Takes the table of `scaling/records/tables.py`, of runs of one unit; gives names of columns and the
runs of each curve. Called by `figures.py` and `page.py`. A study of width has params, amount and
compute; one of data has unique data or epochs; any other numeric column can be asked for by name.
Curves are told apart by the values themselves, None among them; only what follows from whole steps
(amount, epochs, FLOPs) is one where it nearly agrees.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.config import RunConfig, choices, to_identity
from scaling.config.nested import flatten
from scaling.errors import UserError, nearest
from scaling.records.starts import execution_of
from scaling.report.words import words_of
from scaling.units import numbered

SEEDS = ("seed", "data.seed")  # fields that only choose among equal runs
MOST = 3  # fields that tell curves apart: by colour, marker and line
_SAME = 1.01  # counts that vary by less than this do not vary: a number of steps is whole
_NEAR = 1.05  # amounts that are apart by less than this factor are one


def is_rate(column: str) -> bool:
    """Whether a column is a learning rate: the loss has a minimum over it, and no law."""
    name = column.rpartition(".")[2]
    return name in ("lr", "learning_rate") or name.endswith(("_lr", "_learning_rate"))


def done(frame: pd.DataFrame, x: str | None = None) -> pd.DataFrame:
    """The rows that have a final loss, and a value of `x` when it is given."""
    return frame[frame["loss"].notna() & (True if x is None else frame[x].notna())]


def varies(frame: pd.DataFrame, column: str) -> bool:
    """Whether a numeric column takes more than one value among the runs that are done."""
    if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
        return False
    values = done(frame)[column].dropna()
    if column not in words_of(frame).counts:
        return values.nunique() > 1
    return len(values) > 0 and bool(values.max() > _SAME * values.min())


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that are done and have passed over their distinct data more than once."""
    rows = done(frame)
    return rows[rows["epochs"] > _SAME]


def main_axis(frame: pd.DataFrame) -> str:
    """The column that the study is about: size if it varies, else data, else what does vary."""
    words = words_of(frame)
    candidates = ["params", words.unique, "epochs", words.amount, "flops"]
    candidates = [c for c in candidates if c != "epochs" or len(repeated(frame))]
    candidates += [c for c in frame if "." in c and c not in SEEDS]
    return next((c for c in candidates if varies(frame, c)), "params")


def check_axis(frame: pd.DataFrame, x: str) -> None:
    """Raises UserError, naming the nearest column, when `x` is no column of numbers."""
    numeric = [c for c in frame if pd.api.types.is_numeric_dtype(frame[c])]
    if x not in numeric:
        raise UserError(f"x={x} is no numeric column of the table{nearest(x, numeric)}")


def figure_axes(frame: pd.DataFrame, x: str) -> list[str]:
    """The main axis and the further ones worth a figure."""
    words = words_of(frame)
    further = ["params", words.amount, "flops"]
    if varies(frame, words.unique) or not varies(frame, "params"):
        further = ["params", words.unique, "flops"]
        # Else it mirrors the distinct data, or the amount.
        further += ["epochs"] if varies(frame, words.amount) and len(repeated(frame)) else []
    return [x, *(c for c in further if c != x and varies(frame, c))]


def group_of(frame: pd.DataFrame, x: str) -> tuple[str, ...]:
    """The columns that tell apart runs with the same `x` (other than by seed), at most `MOST`; none
    where nothing does.
    """
    rows = done(frame, x)
    words, execution, follow = words_of(frame), _execution(), _derived()
    sizes = ["params", words.unique, words.amount, "flops"]
    fields = [c for c in frame if "." in c and not c.startswith(("mesh.", "evals."))]
    fields = [c for c in fields if c not in execution]  # what is computed does not depend on them
    chosen = [*sizes, *(c for c in fields if c not in follow)]
    derived = [c for c in fields if c in follow]
    found: tuple[str, ...] = ()
    for _ in range(MOST):
        apart = [x, *found]
        column = _fewest(rows, apart, chosen) or _fewest(rows, apart, derived)
        if column is None:
            break
        found += (column,)
    return found


def _derived() -> set[str]:
    """The fields that mostly follow from others, of a model from its width: they tell runs apart
    only where nothing else does.
    """
    found = {"optim.warmup_steps", "train.steps"}
    for name in choices.registry("model"):
        family, config = choices.record("model", name), choices.new("model", name)
        found |= family.scaled(config, config.width, config.depth).keys()
    return found - {"model.width", "model.depth"}


def _execution() -> set[str]:
    """The fields that say how a run is executed, of every choice, that are no other's identity."""
    configs = [
        RunConfig(**{group: choices.new(group, name)})
        for group in choices.ROOMS
        for name in choices.registry(group)
    ]
    how = {name for config in configs for name in execution_of(config)}
    return how - {name for config in configs for name in flatten(to_identity(config))}


def _fewest(rows: pd.DataFrame, apart: list[str], columns: list[str]) -> str | None:
    """Of the columns that tell apart runs that are the same in the columns `apart`, the one with
    the fewest values.
    """
    best, fewest = None, 0
    amounts = words_of(rows).amounts
    known = [groups_in(rows[column], amounts) for column in apart]
    for column in columns:
        if column in apart or column in SEEDS or column not in rows or rows.empty:
            continue
        groups = groups_in(rows[column], amounts)
        differ = groups.groupby([k.to_numpy() for k in known]).nunique().max() > 1
        if differ and (best is None or groups.nunique() < fewest):
            best, fewest = column, groups.nunique()
    return best


def groups_in(column: pd.Series, amounts: Collection[str] = ()) -> pd.Series:
    """The group of each row by one column: 0, 1, ... in the order of the values: numbers, then
    text, then what is neither, None last. Columns named in `amounts` are grouped where they nearly
    agree.
    """
    if column.name in amounts:
        column = _amounts(column.astype("float64"))
    values = column.tolist()
    number = np.array(numbered(values), int)
    firsts = [values[int(np.argmax(number == k))] for k in range(len(set(number)))]
    order = sorted(range(len(firsts)), key=lambda k: _place(firsts[k]))
    rank = {k: i for i, k in enumerate(order)}
    return pd.Series([rank[k] for k in number], index=column.index, dtype="int64")


def _place(value: object) -> tuple[int, float, str]:
    if value is None or value is pd.NA or value != value:
        return 3, 0.0, ""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return 0, float(value), repr(value)
    return 1 if isinstance(value, str) else 2, 0.0, str(value)


def _amounts(column: pd.Series) -> pd.Series:
    """Each amount as the mean of those that it chains to by factors below `_NEAR`."""
    ordered = column.dropna().sort_values()
    step = (ordered / ordered.shift() >= _NEAR) & (ordered > 0)
    mean = ordered.groupby(step.cumsum()).transform("mean")
    return mean.reindex(column.index)


@dataclass(frozen=True)
class Curve:
    """The runs of one line of a figure."""

    by: tuple[str, ...]  # columns that tell curves apart, of which these are its values
    values: tuple[object, ...]
    labels: tuple[str, ...]  # of the values, as many digits as tell them from the others'
    places: tuple[int, ...]  # of each value among those of its column: 0, 1, ...
    rows: pd.DataFrame

    @property
    def name(self) -> str | None:
        """In words; None for the only curve of a study."""
        words = words_of(self.rows)
        named = [words.named(c, text) for c, text in zip(self.by, self.labels, strict=True)]
        return ", ".join(named) or None


def curves_of(frame: pd.DataFrame, x: str | None, by: Sequence[str]) -> list[Curve]:
    """The done runs, apart by the columns `by`, in the order of the values."""
    rows = done(frame, x)
    for column in by:
        if column not in rows:
            raise UserError(f'group="{column}" is no column of the table{nearest(column, rows)}')
        if rows[column].isna().all() and len(rows):
            raise UserError(
                f'group="{column}" has no value in any run (resolving a run empties what it turns '
                "into steps, such as train.epochs); group by a column of the table, such as epochs"
            )
    return curves_in(rows, by)


def curves_in(rows: pd.DataFrame, by: Sequence[str]) -> list[Curve]:
    """As `curves_of`, of all the rows."""
    if not by or rows.empty:
        return [Curve((), (), (), (), rows)]
    words = words_of(rows)
    places = pd.DataFrame({column: groups_in(rows[column], words.amounts) for column in by})
    names, values = {}, {}
    for column in by:
        of_column = _amounts(rows[column]) if column in words.amounts else rows[column]
        first = [of_column[places[column] == k].iloc[0] for k in range(places[column].max() + 1)]
        names[column], values[column] = words.texts(column, first), first
    found = []
    for key, part in places.groupby(list(by)):
        at = dict(zip(by, (int(k) for k in key), strict=True))
        found.append(
            Curve(
                tuple(by),
                tuple(values[c][k] for c, k in at.items()),
                tuple(names[c][k] for c, k in at.items()),
                tuple(at.values()),
                rows.loc[part.index],
            )
        )
    return found


def means(rows: pd.DataFrame, x: str, loss: str = "loss") -> pd.DataFrame:
    """Mean, standard deviation and number of the seeds at every `x`, in the order of `x`."""
    values = rows[[x, loss]].dropna().groupby(x)[loss]
    return values.agg(["mean", "std", "count"]).reset_index()
