"""A person's tables: the cells of a .csv, .tsv, .jsonl or .parquet file, by column.

Called by the kinds of data that read pairs of something from two columns.
"""

import csv
from pathlib import Path
from typing import Any

from scaling.errors import SourceError, nearest

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_SEPARATORS, ".jsonl", ".parquet")


def text(path: Path) -> str:
    """What a file of UTF-8 says. Raises SourceError."""
    if not path.is_file():
        raise SourceError(f"{path} is no file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}: line {line} is not UTF-8 ({error.reason})") from None


def chosen(path: Path, wanted: str, count: int, form: str) -> list[list[str]]:
    """The cells of the columns "a,b,...", or of the first `count`; stripped, none of them empty.
    `form` is how to name them. Raises SourceError.
    """
    columns = _columns(path)
    names = wanted.split(",") if wanted else list(columns)[:count]
    if len(names) != count:
        raise SourceError(f"{path}: {count} columns are wanted, not {len(names)}; write {form}")
    for name in names:
        if name not in columns:
            raise SourceError(f'{path} has no column "{name}"{nearest(name, columns)}')
    for number, row in enumerate(zip(*(columns[name] for name in names), strict=True), 1):
        for name, value in zip(names, row, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise SourceError(f'{path}: row {number} has no text in column "{name}"')
    return [[str(value).strip() for value in columns[name]] for name in names]


def _columns(path: Path) -> dict[str, list[Any]]:
    """The cells of a table, by column. Raises SourceError."""
    if path.suffix not in _SUFFIXES:
        raise SourceError(f"{path}: a table of pairs ends in {', '.join(_SUFFIXES)}")
    if path.suffix in _SEPARATORS:
        lines = text(path).splitlines()
        head, *rows = csv.reader(lines, delimiter=_SEPARATORS[path.suffix])
        for number, row in enumerate(rows, 1):
            if len(row) != len(head):
                raise SourceError(f"{path}: row {number} has {len(row)} cells, not {len(head)}")
        return {name: [row[i] for row in rows] for i, name in enumerate(head)}
    import pandas as pd

    try:
        if not path.is_file():
            raise OSError("no such file")
        lines_of = path.suffix == ".jsonl"
        frame = pd.read_json(path, lines=True, dtype=False) if lines_of else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} is no table that can be read: {error}") from None
    return {str(name): frame[name].tolist() for name in frame.columns}
