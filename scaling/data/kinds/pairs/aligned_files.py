"""A person's own pairs: two files of aligned lines, or two columns of a table.

Takes what stands behind `lines:` or `table:`; gives (meaning, source, target), where the meaning is
the source: what is said in two ways is one thing. Called by `sources.py`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.errors import SourceError, nearest

Row = tuple[str, str, str]


def _paths(form: str, rest: str) -> list[Path]:
    parts = rest.split("=", 1) if form == "lines" else [rest.split("#", 1)[0]]
    return [Path(part).expanduser() for part in parts]


def stamps(form: str, rest: str) -> tuple[object, ...]:
    """What tells one state of the files from another; () of a form without files."""
    if form not in ("lines", "table"):
        return ()
    found = [path.stat() for path in _paths(form, rest) if path.is_file()]
    return tuple((one.st_mtime_ns, one.st_size) for one in found)


def lines(rest: str) -> Iterator[Row]:
    """Of `<file of sources>=<file of targets>`, line by line. Raises SourceError."""
    paths = _paths("lines", rest)
    if len(paths) != 2:
        raise SourceError(
            f'source "lines:{rest}" names one file; write lines:<file of sources>=<file of targets>'
        )
    sides = [_text(path).splitlines() for path in paths]
    counts = [len(side) for side in sides]
    if counts[0] != counts[1]:
        raise SourceError(
            f"{paths[0]} has {counts[0]} lines and {paths[1]} {counts[1]}: line by line they are "
            "to be pairs; add the missing ones"
        )
    for number, (source, target) in enumerate(zip(*sides, strict=True), 1):
        source, target = source.strip(), target.strip()
        if not source and not target:
            continue
        if not source or not target:
            empty = paths[0] if not source else paths[1]
            raise SourceError(f"{empty}: line {number} is empty, its partner is not; pair missing")
        yield source, source, target


def _text(path: Path) -> str:
    if not path.is_file():
        raise SourceError(f"{path} is no file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SourceError(f"{path}: line {line} is not UTF-8 ({error.reason})") from None


_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (*_SEPARATORS, ".jsonl", ".parquet")


def table(rest: str) -> Iterator[Row]:
    """Of `<file>#<column>,<column>`, by default its first two columns. Raises SourceError."""
    (path,) = _paths("table", rest)
    columns = _columns(path)
    _, _, wanted = rest.partition("#")
    names = wanted.split(",") if wanted else list(columns)[:2]
    if len(names) != 2:
        raise SourceError(f"{path}: two columns make pairs, not {len(names)}; write #source,target")
    for name in names:
        if name not in columns:
            raise SourceError(f'{path} has no column "{name}"{nearest(name, columns)}')
    for number, pair in enumerate(zip(*(columns[name] for name in names), strict=True), 1):
        for name, value in zip(names, pair, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise SourceError(f'{path}: row {number} has no text in column "{name}"')
        source, target = (str(value).strip() for value in pair)
        yield source, source, target


def _columns(path: Path) -> dict[str, list[Any]]:
    """The cells of a table, by column. Raises SourceError."""
    if path.suffix not in _SUFFIXES:
        raise SourceError(f"{path}: a table of pairs ends in {', '.join(_SUFFIXES)}")
    if path.suffix in _SEPARATORS:
        head, *rows = csv.reader(_text(path).splitlines(), delimiter=_SEPARATORS[path.suffix])
        for number, row in enumerate(rows, 1):
            if len(row) != len(head):
                raise SourceError(f"{path}: row {number} has {len(row)} cells, not {len(head)}")
        return {name: [row[i] for row in rows] for i, name in enumerate(head)}
    import pandas as pd

    try:
        if not path.is_file():
            raise OSError("no such file")
        lines = path.suffix == ".jsonl"
        frame = pd.read_json(path, lines=True, dtype=False) if lines else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} is no table that can be read: {error}") from None
    return {str(name): frame[name].tolist() for name in frame.columns}
