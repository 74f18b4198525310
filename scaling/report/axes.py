"""What a table of runs varies, and so what its figures have on their axes.

Takes the table of `scaling/records.py`; gives names of columns and their labels. Called by
`figures.py` and `page.py`. A study of width has params, tokens and compute; one of data has unique
tokens or epochs; any other numeric column can be asked for by name.
"""

import pandas as pd

from scaling.errors import UserError, nearest
from scaling.units import human

LABELS = {
    "params": "parameters",
    "params_non_embedding": "non-embedding parameters",
    "params_active": "active parameters",
    "tokens": "training tokens",
    "unique_tokens": "unique training tokens",
    "epochs": "epochs",
    "flops": "training FLOPs",
    "width": "width (channels)",
    "depth": "depth (blocks)",
    "seconds": "wall-clock time (s)",
    "optim.peak_lr": "peak learning rate",
    "train.batch_size": "batch size (windows)",
}
# What a model has or gets more of: loss should fall with it.
COUNTS = (
    *("params", "params_non_embedding", "params_active"),
    *("tokens", "unique_tokens", "epochs", "flops"),
)
SEEDS = ("seed", "data.seed")  # fields that only choose among equal runs
# Fields that mostly follow from others: they tell runs apart only where nothing else does.
_DERIVED = (
    *("model.heads", "model.head_dim", "model.kv_heads", "model.mlp_width", "model.moe.width"),
    *("optim.warmup_steps", "train.steps"),
)
_SAME = 1.01  # counts closer than this are one count, rounded to whole steps


def label(column: str) -> str:
    """What stands on the axis of a column."""
    return LABELS.get(column, column)


def done(frame: pd.DataFrame, x: str | None = None) -> pd.DataFrame:
    """The rows that have a final loss, and a value of `x` when it is given."""
    return frame[frame["loss"].notna() & (True if x is None else frame[x].notna())]


def varies(frame: pd.DataFrame, column: str) -> bool:
    """Whether a numeric column takes more than one value among the runs that are done."""
    if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
        return False
    values = done(frame)[column].dropna()
    return len(values) > 0 and bool(values.max() > _SAME * values.min())


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs that are done and have passed over their distinct tokens more than once."""
    rows = done(frame)
    return rows[rows["epochs"] > _SAME]


def main_axis(frame: pd.DataFrame) -> str:
    """The column that the study is about: size if it varies, else data, else what does vary."""
    candidates = ["params", "unique_tokens", "epochs", "tokens", "flops"]
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
    further = ["params", "tokens", "flops"]
    if varies(frame, "unique_tokens") or not varies(frame, "params"):
        further = ["params", "unique_tokens", "flops"]
        # Else it mirrors unique_tokens, or tokens.
        further += ["epochs"] if varies(frame, "tokens") and len(repeated(frame)) else []
    return [x, *(c for c in further if c != x and varies(frame, c))]


def group_of(frame: pd.DataFrame, x: str) -> str | None:
    """The column that tells apart runs with the same `x` (other than by seed), if any do."""
    rows = done(frame, x)
    sizes = ["params", "unique_tokens", "tokens", "flops"]
    fields = [c for c in frame if "." in c and not c.startswith(("mesh.", "evals."))]
    chosen = [c for c in fields if c not in _DERIVED]
    derived = [c for c in fields if c in _DERIVED]
    return _fewest(rows, x, [*sizes, *chosen]) or _fewest(rows, x, derived)


def _fewest(rows: pd.DataFrame, x: str, columns: list[str]) -> str | None:
    """Of the columns that tell apart runs with the same `x`, the one with the fewest values."""
    best: str | None = None
    for column in columns:
        if column == x or column in SEEDS or column not in rows:
            continue
        values = _rounded(rows[column])
        if values.groupby(_rounded(rows[x])).nunique().max() > 1 and (
            best is None or values.nunique() < _rounded(rows[best]).nunique()
        ):
            best = column
    return best


def _rounded(values: pd.Series) -> pd.Series:
    """Counts to two significant digits: a number of steps is whole, so FLOPs never quite agree."""
    if not pd.api.types.is_float_dtype(values):
        return values
    return values.map(lambda value: float(f"{value:.2g}"))


def groups(frame: pd.DataFrame, x: str, by: str | None) -> list[tuple[object, pd.DataFrame]]:
    """The done runs, apart by the column `by`: [(value or None, rows)], in the order of value."""
    rows = done(frame, x)
    if by is None:
        return [(None, rows)]
    if by not in rows:
        raise UserError(f'group="{by}" is no column of the table{nearest(by, rows.columns)}')
    if rows[by].isna().all() and len(rows):
        raise UserError(
            f'group="{by}" has no value in any run (resolving a run empties what it turns into '
            "steps, such as train.epochs); group by a column of the table, such as epochs"
        )
    return groups_of(rows, by)


def groups_of(rows: pd.DataFrame, by: str) -> list[tuple[object, pd.DataFrame]]:
    """Rows apart by a column: [(value, rows)], in the order of value."""
    key = _rounded(rows[by])
    return [(value, rows.loc[part.index]) for value, part in rows.groupby(key)]


def shown(value: object) -> str:
    """One value of a column, short."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return human(float(value)) if number else str(value)  # type: ignore[arg-type]


def named(column: str, value: object) -> str:
    """ "1.2M parameters", "optim.name adamw": one value of a column in words."""
    if column in COUNTS:
        return f"{shown(value)} {label(column)}"
    return f"{label(column)} {shown(value)}"


def means(rows: pd.DataFrame, x: str, loss: str = "loss") -> pd.DataFrame:
    """Mean, standard deviation and number of the seeds at every `x`, in the order of `x`."""
    values = rows[[x, loss]].dropna().groupby(x)[loss]
    return values.agg(["mean", "std", "count"]).reset_index()
