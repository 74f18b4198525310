"""Any table of runs: CSV, Parquet or JSON lines, renamed, widened and narrowed as asked.

`read_table` gives a pandas table and sentences about what was left out. Called by `command.py`,
tests and benchmarks; the fits take any pandas table.
"""

import gzip
import pathlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow

from scaling.errors import UserError, nearest
from scaling.laws.expressions import assignments, evaluate
from scaling.laws.json_rows import read_lines, read_whole

READERS = (".csv", ".csv.gz", ".tsv", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".json")


@dataclass(frozen=True)
class Table:
    """A table that was read, and what happened to it on the way."""

    rows: pd.DataFrame
    read: int  # rows in the file
    notes: tuple[str, ...]  # renamings, derived columns, rows left out
    source: str  # file name


def _text(path: pathlib.Path) -> str:
    """The text of a file, compressed or not; a byte-order mark is none of it."""
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode("utf-8-sig")


def read_file(path: str | pathlib.Path) -> pd.DataFrame:
    """A table from a file. Raises UserError when it is missing, empty or of another kind."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such table")
    try:
        name = path.name.lower()
        if name.endswith((".csv", ".csv.gz")):
            table = pd.read_csv(path, skipinitialspace=True)
        elif name.endswith(".tsv"):
            table = pd.read_csv(path, sep="\t", skipinitialspace=True)
        elif name.endswith(".parquet"):
            table = pd.read_parquet(path)
        elif name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
            table = read_lines(_text(path), path.name)
        elif name.endswith(".json"):
            table = read_whole(_text(path), path.name)
        else:
            raise UserError(f"{path}: a table ends in {', '.join(READERS)}")
    except (ValueError, OSError, pyarrow.ArrowException) as e:
        raise UserError(f"{path} cannot be read as a table: {str(e).splitlines()[0]}") from None
    table.columns = [str(c).strip() for c in table.columns]
    if not len(table):
        raise UserError(f"{path} has no rows")
    return table


def _arrays(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Columns for an expression: bools, numbers where all cells are numbers or empty, else text
    with None in empty cells.
    """
    out = {}
    for name in table.columns:
        column, filled = table[name], table[name].notna().to_numpy()
        values = as_floats(column)
        if column.dtype == bool:
            values = column.to_numpy(bool)
        elif (np.isnan(values) & filled).any():
            values = column.astype(str).to_numpy(object).copy()
            values[~filled] = None
        out[str(name)] = values
    return out


def shape_table(
    table: pd.DataFrame, *, columns: str = "", derive: str = "", where: str = ""
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table with columns renamed and derived and rows chosen.

    Args:
      table: as read.
      columns: "params=Model Size,loss=loss": new name = name in the file, all at once, so that two
        may be swapped. The old column keeps its name too, unless another takes it.
      derive: "tokens=flops/(6*params)": new column = expression of columns, one after another.
      where: "loss<5 and depth>2": rows that are kept.

    Raises UserError for unknown columns or an expression that is not arithmetic.
    """
    notes: list[str] = []
    raw, table = table, table.copy()
    for new, old in assignments(columns, "--columns").items():
        if len(old) > 1 and old[0] == old[-1] and old[0] in "'\"" and old not in raw.columns:
            old = old[1:-1]
        if old not in raw.columns:
            raise UserError(f"--columns: the table has no column {old}{nearest(old, raw.columns)}")
        table[new] = raw[old]
        if new != old:
            notes.append(f'{new} is the column "{old}"')
    for new, expression in assignments(derive, "--derive").items():
        value = evaluate(expression, _arrays(table), "--derive")
        table[new] = np.broadcast_to(np.asarray(value), len(table)).copy()
        notes.append(f"{new} = {expression}")
    if where.strip():
        chosen = evaluate(where, _arrays(table), "--where")
        keep = np.broadcast_to(np.asarray(chosen), len(table))
        if keep.dtype != bool:
            raise UserError(f'--where: "{where}" is not a condition; write for example loss<5')
        if not keep.any():
            raise UserError(f'--where: no row satisfies "{where}"')
        if not keep.all():
            notes.append(f'{int((~keep).sum())} rows do not satisfy "{where}" and are left out')
        table = table[keep]
    return table, tuple(notes)


def as_floats(column: pd.Series) -> np.ndarray:
    """A column as floats, NaN where a cell is empty or no number."""
    try:
        return pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    except OverflowError:  # an integer beyond all floats
        return column.map(_float).to_numpy(float)


def _float(cell: object) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]
    except OverflowError:
        return np.inf if cell > 0 else -np.inf  # type: ignore[operator]
    except (TypeError, ValueError):
        return np.nan


def read_table(
    path: str | pathlib.Path, *, columns: str = "", derive: str = "", where: str = ""
) -> Table:
    """`read_file`, then `shape_table`."""
    raw = read_file(path)
    rows, notes = shape_table(raw, columns=columns, derive=derive, where=where)
    return Table(rows, len(raw), notes, pathlib.Path(path).name)
