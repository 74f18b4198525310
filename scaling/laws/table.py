"""Any table of runs: text, Parquet or JSON, renamed, widened and narrowed as asked.

`read_table` gives a pandas table and sentences about what was left out. Called by `fit_command.py`,
tests and benchmarks; the fits take any pandas table.
"""

import gzip
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow

from scaling.errors import UserError, nearest
from scaling.laws import cells
from scaling.laws.expressions import assignments, evaluate
from scaling.laws.json_rows import read_lines, read_whole
from scaling.laws.text_tables import decode, described, read_text, ways

TEXT, LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
_TAGS, _TAG = "tags", "tag"  # a column of all tags of a run, and each of them
READERS = (*TEXT, *LINES, ".json", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table that was read, and what happened to it on the way."""

    rows: pd.DataFrame
    read: int  # rows in the file
    notes: tuple[str, ...]  # renamings, derived columns, rows left out
    source: str  # file name


def read_file(path: str | pathlib.Path, decimal: str = "") -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table from a file, and a sentence on how it was read where that needs one.

    Args:
      path: text (compressed by gzip or not), JSON, JSON lines or Parquet, by its name.
      decimal: "." or ",": what 1,400 and its like mean in text; "": they are refused where a number
        is needed.

    Raises UserError when it is missing, empty or of another kind.
    """
    path, told = pathlib.Path(path), ""
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(READERS):
        raise UserError(f"{path}: a table ends in {', '.join(READERS)} (text ones also .gz)")
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such table")
        if name.endswith(".parquet"):
            table = pd.read_parquet(path)
        else:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
            if name.endswith(TEXT):
                table, told = read_text(raw, path.name, decimal)
            else:
                text, told = decode(raw, path.name)
                reader = read_lines if name.endswith(LINES) else read_whole
                table = reader(text, path.name)
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException) as e:
        why = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"{path} cannot be read as a table: {why}") from None
    table.columns = [str(c).strip() for c in table.columns]
    if twice := table.columns[table.columns.duplicated()].tolist():
        raise UserError(f'{path} names the column "{twice[0]}" twice; rename one')
    if not len(table):
        raise UserError(f"{path} has no rows")
    if not name.endswith(TEXT):
        told = "; ".join([*([told] if told else []), *_typed_as_text(table)])
    return table, (f"read as: {told}",) if told else ()


def _typed_as_text(table: pd.DataFrame) -> list[str]:
    """In which ways text of other files is read where a number is needed."""
    how: dict[tuple[str, str], list[str]] = {}
    for name in table.columns:
        column = _cells(table[name])
        for way in ways(column, cells.read(column)) if column else ():
            how.setdefault(way, []).append(name)
    return described(how)


def _cells(column: pd.Series) -> list[str] | None:
    """A column of text as its cells, empty ones as ""; None for another."""
    if column.dtype != object and not isinstance(column.dtype, pd.StringDtype):
        return None
    values = ["" if empty else value for value, empty in zip(column, column.isna(), strict=True)]
    return [v.strip() for v in values] if all(isinstance(v, str) for v in values) else None


def floats(column: pd.Series) -> tuple[np.ndarray, str]:
    """A column as floats, NaN where a cell is empty or no number, and what is wrong with the first
    that is none: '"1,400" in row 3, which could be 1400 or 1.4: ...'; "" when all are fine.
    """
    text = _cells(column)
    if text is not None:
        reading = cells.read(text)
        if reading.values is not None:
            return np.array([_float(v) for v in reading.values], float), ""
        wrong = _wrong(column, reading.row, reading.why, reading.count)
        return np.full(len(column), np.nan), wrong
    try:
        values = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
    except OverflowError:  # an integer beyond all floats
        values = column.map(_float).to_numpy(float)
    bad = np.isnan(values) & column.notna().to_numpy()
    if bad.any():
        bad &= ~column.astype(str).str.strip().isin(cells.EMPTY).to_numpy()
    if not bad.any():
        return values, ""
    row = int(np.flatnonzero(bad)[0])
    return values, _wrong(column, row, "is no number", int(bad.sum()))


def _wrong(column: pd.Series, place: int, why: str, count: int) -> str:
    """A cell on one line, the number of its row in the file (from 1), and what is wrong with it."""
    label, shown = column.index[place], " ".join(str(column.iloc[place]).split())
    row = int(label) + 1 if isinstance(label, int | np.integer) else place + 1
    return f'"{shown}" in row {row}, which {why}' + (f" ({count} such cells)" if count > 1 else "")


def _float(cell: object) -> float:
    try:
        return np.nan if cell is None else float(cell)  # type: ignore[arg-type]
    except OverflowError:
        return np.inf if cell > 0 else -np.inf  # type: ignore[operator]
    except (TypeError, ValueError):
        return np.nan


class Tags(str):
    """The tags of one run, with commas: equal to each of them."""

    def __eq__(self, other: object) -> bool:
        return other in self.split(",")

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class _Arrays(Mapping[str, np.ndarray]):
    """Columns for an expression, made when it reads them: bools, numbers where all cells are
    numbers or empty, else text with None in empty cells.
    """

    def __init__(self, table: pd.DataFrame, flag: str):
        self.table, self.flag = table, flag

    def __getitem__(self, name: str) -> np.ndarray:
        if name == _TAG and name not in self.table and _TAGS in self.table:
            texts = self.table[_TAGS]
            cells = (Tags(text) if isinstance(text, str) and text else None for text in texts)
            return np.array([*cells, None], object)[:-1]  # of objects, however long
        column = self.table[name]
        if column.dtype == bool:
            return column.to_numpy(bool)
        values, wrong = floats(column)
        if not wrong:
            return values
        if "is no number" not in wrong:
            raise UserError(f"{self.flag}: column {name} holds {wrong}")
        text = column.astype(str).to_numpy(object).copy()
        text[column.isna().to_numpy()] = None
        return text

    def __iter__(self) -> Iterator[str]:
        yield from self.table.columns
        if _TAGS in self.table and _TAG not in self.table:
            yield _TAG

    def __len__(self) -> int:
        return sum(1 for _ in self)


def shape_table(
    table: pd.DataFrame, *, columns: str = "", derive: str = "", where: str = ""
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table with columns renamed and derived and rows chosen.

    Args:
      table: as read.
      columns: "params=Model Size,loss=loss": new name = name in the file, all at once, so that two
        may be swapped. The old column keeps its name too, unless another takes it. #3 is the third.
      derive: "tokens=flops/(6*params)": new column = expression of columns, one after another.
      where: "loss<5 and depth>2": rows that are kept.

    Raises UserError for unknown columns or an expression that is not arithmetic.
    """
    notes: list[str] = []
    raw, table = table, table.copy()
    for new, old in assignments(columns, "--columns").items():
        if len(old) > 1 and old[0] == old[-1] and old[0] in "'\"" and old not in raw.columns:
            old = old[1:-1]
        if old not in raw.columns and (place := re.fullmatch(r"#(\d{1,6})", old)):
            if not 1 <= int(place[1]) <= len(raw.columns):
                raise UserError(f"--columns: the table has {len(raw.columns)} columns, no {old}")
            old = str(raw.columns[int(place[1]) - 1])
        if old not in raw.columns:
            raise UserError(f"--columns: the table has no column {old}{nearest(old, raw.columns)}")
        table[new] = raw[old]
        if new != old:
            notes.append(f'{new} is the column "{old}"')
    for new, expression in assignments(derive, "--derive").items():
        value = evaluate(expression, _Arrays(table, "--derive"), "--derive")
        table[new] = np.broadcast_to(np.asarray(value), len(table)).copy()
        notes.append(f"{new} = {expression}")
    if where.strip():
        chosen = evaluate(where, _Arrays(table, "--where"), "--where")
        keep = np.broadcast_to(np.asarray(chosen), len(table))
        if keep.dtype != bool:
            raise UserError(f'--where: "{where}" is not a condition; write for example loss<5')
        if not keep.any():
            raise UserError(f'--where: no row satisfies "{where}"')
        if not keep.all():
            notes.append(f'{int((~keep).sum())} rows do not satisfy "{where}" and are left out')
        table = table[keep]
    return table, tuple(notes)


def read_table(
    path: str | pathlib.Path,
    *,
    columns: str = "",
    derive: str = "",
    where: str = "",
    decimal: str = "",
) -> Table:
    """`read_file`, then `shape_table`."""
    raw, told = read_file(path, decimal)
    rows, notes = shape_table(raw, columns=columns, derive=derive, where=where)
    return Table(rows, len(raw), (*told, *notes), pathlib.Path(path).name)
