"""A text table of any separator, encoding and way of writing numbers, as a pandas table.

Takes the bytes of a file and gives its columns, and what was read as what: the separator is the one
of comma, semicolon and tab by which all rows have equally many cells; comment lines and titles
before the header are passed over; a file without a header has columns #1, #2, ... Called by
`table.py`.
"""

import codecs
import collections
import csv
import io
import re
from typing import Any

import pandas as pd

from scaling.errors import UserError
from scaling.laws import cells

SEPARATORS = {"\t": "tabs", ";": '";"', ",": '","'}
SAMPLE = 100_000  # characters in which the separator shows
COMMENT = ("#", "%", "//")
_BOMS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def decode(raw: bytes, name: str) -> tuple[str, str]:
    """Text, and its encoding where that is not UTF-8."""
    kind = next((kind for bom, kind in _BOMS.items() if raw.startswith(bom)), "")
    zeros = [raw[side:1000:2].count(0) for side in (0, 1)]
    if not kind and max(zeros) > 0.4 * len(raw[:1000:2]):  # UTF-16 without its mark
        kind = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        text = raw.decode(kind or "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        if kind:
            raise UserError(f"{name} is no text, though its first bytes are {kind}") from None
        text, kind = raw.decode("cp1252", errors="replace"), "Windows-1252"
    if "\0" in text:
        raise UserError(f"{name} is no text: it has NUL bytes")
    return text, "" if kind in ("", "utf-8") else (kind if kind[0] == "W" else kind.upper())


def read_text(raw: bytes, name: str, decimal: str = "") -> tuple[pd.DataFrame, str]:
    """A table and one sentence about how it was read, empty where that is as one would think.

    Args:
      raw: the file, decompressed.
      name: for messages.
      decimal: as in `cells.read`.

    Raises UserError that names line, column or cell for what can be read in no way or in two.
    """
    text, encoding = decode(raw, name)
    told = [encoding] if encoding else []
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := re.match(r'"?sep=(.)"?\n', text):  # a spreadsheet's own word on it
        text = text[found.end() :]
    comments, text = _comments(text)
    separator, lines = _separated(text, name)
    header, body, passed = _header(comments, lines, name, separator)
    if separator and separator != ",":
        told.append(f"cells separated by {SEPARATORS[separator]}")
    if passed:
        told.append(f"{passed} lines before the header passed over")
    if header is None:
        told.append(f"no header: the columns are #1 to #{len(body[0][1])}")
        header = [f"#{i + 1}" for i in range(len(body[0][1]))]
    table, how = _columns(header, [row for _, row in body], name, decimal)
    return table, "; ".join(told + how)


def _comments(text: str) -> tuple[list[str], str]:
    """Comment lines before the table, and the rest."""
    comments: list[str] = []
    while text.startswith(COMMENT) or (comments and text[:1] == "\n"):
        line, _, text = text.partition("\n")
        if line.strip():
            comments.append(line.strip())
    return comments, text


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    return [(line, row) for line, row in rows if any(row)]


def _separated(text: str, name: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator ("" for a single column) and the rows that it gives."""
    found, most = "", 0.0
    try:
        for separator in SEPARATORS:
            rows = _rows(text[:SAMPLE], separator)
            counts = collections.Counter(len(r) for _, r in rows if len(r) > 1)
            if counts and (share := counts.most_common(1)[0][1] / len(rows)) > most:
                found, most = separator, share
        rows = _rows(text, found or ",")
    except csv.Error as e:
        raise UserError(f"{name} cannot be read as a table: {e}") from None
    if not rows:
        raise UserError(f"{name} cannot be read as a table: it is empty")
    return found, rows if found else [(line, [",".join(row)]) for line, row in rows]


def _header(
    comments: list[str], rows: list[tuple[int, list[str]]], name: str, separator: str
) -> tuple[list[str] | None, list[tuple[int, list[str]]], int]:
    """Header (None: there is none), rows below, and how many lines before were passed over."""
    width = collections.Counter(len(row) for _, row in rows).most_common(1)[0][0]
    # A title above the header has fewer cells than the table; a header has no number.
    start = next(i for i, (_, row) in enumerate(rows) if len(row) == width)
    if any(_is_number(cell) for cell in rows[start][1]):
        start = 0
    passed = len(comments) + start
    header: list[str] | None = rows[start][1]
    body = rows[start + 1 :]
    if _alike(rows[start][1], body[0][1] if body else []):
        header, body = None, rows[start:]
        if comments and not start:  # numpy.savetxt writes the header as a comment
            line = comments[-1].lstrip("#%/ ")
            names = next((row for _, row in _rows(line, separator or "\t")), [])
            if len(names) == width and not any(_is_number(cell) for cell in names):
                header, passed = names, passed - 1
    count = len(header or body[0][1])
    body = [(n, row) for n, row in body if len(row) == count or not row[0].startswith(COMMENT)]
    first = "the header" if header else "the first row"
    for line_number, row in body:
        if len(row) != count:
            way = "complete the line, or remove it"
            if len(row) > count:
                way = "quote cells that hold the separator, or correct the line"
                if separator == ",":
                    way = "if commas stand in numbers, quote these cells or separate cells by ;"
            at = line_number + len(comments)
            raise UserError(f"{name}, line {at} has {len(row)} cells, {first} {count}: {way}")
    return header, body, passed


def _is_number(cell: str) -> bool:
    return cell not in cells.EMPTY and cells.read([cell], ".").values is not None


def _alike(first: list[str], second: list[str]) -> bool:
    """Whether a first row is one of data: it has numbers, and where the next row has them."""
    filled = [(a, b) for a, b in zip(first, second or first, strict=False)
              if not {a, b} & cells.EMPTY]  # fmt: skip
    kinds = [(_is_number(a), _is_number(b)) for a, b in filled]
    return any(a for a, _ in kinds) and all(a == b for a, b in kinds)


def _columns(
    header: list[str], rows: list[list[str]], name: str, decimal: str
) -> tuple[pd.DataFrame, list[str]]:
    """The table, and in which ways cells were read."""
    header = [" ".join(title.split()) for title in header]
    keep = [i for i, title in enumerate(header) if title or any(row[i] for row in rows)]
    titles = [header[i] or f"#{i + 1}" for i in keep]
    for title, count in collections.Counter(titles).items():
        if count > 1:
            places = [str(i + 1) for i in keep if header[i] == title]
            raise UserError(
                f'{name}: the header names "{title}" {count} times (columns '
                f"{', '.join(places)}); rename all but one"
            )
    table: dict[str, Any] = {}
    how: dict[tuple[str, str], list[str]] = {}
    commas = ""
    for title, i in zip(titles, keep, strict=True):
        column = [row[i] for row in rows]
        reading = cells.read(column, decimal)
        if reading.decimal == "," and not commas:
            commas = title
        for way in ways(column, reading):
            how.setdefault(way, []).append(title)
        table[title] = _series(column, reading)
    if commas and not decimal:
        _refuse_points(table, titles, keep, rows, commas, name)
    return pd.DataFrame(table), described(how)


def described(how: dict[tuple[str, str], list[str]]) -> list[str]:
    """'decimal commas ("3,5" is 3.5) in loss, lr' for each way, from (way, example) -> columns."""
    said: dict[str, str] = {}
    for (way, example), columns in how.items():
        named = ", ".join(columns)
        said[way] = f"{said[way]}, {named}" if way in said else f"{way} ({example}) in {named}"
    return list(said.values())


def ways(column: list[str], reading: cells.Reading) -> list[tuple[str, str]]:
    """In which ways a column was read, with an example of each."""
    values = reading.values or []
    return [(way, f'"{" ".join(cell.split())}" is {values[column.index(cell)]:,.12g}')
            for way, cell in reading.how.items()]  # fmt: skip


def _refuse_points(
    table: dict[str, Any], titles: list[str], keep: list[int], rows: list[list[str]], commas: str,
    name: str,
) -> None:  # fmt: skip
    """Raises UserError for a column of 1.400 and its like in a file of decimal commas."""
    for title, i in zip(titles, keep, strict=True):
        column = [row[i] for row in rows]
        row = cells.thousands_or_fraction(column)
        reading = cells.read(column)
        if row is not None and reading.values is not None and not reading.how:
            raise UserError(
                f'{name}: column {title} holds "{column[row]}" in row {row + 1}, a fraction or '
                f"thousands, as {commas} has decimal commas; say which: --decimal=. or --decimal=,"
            )


def _series(column: list[str], reading: cells.Reading) -> pd.Series:
    """Numbers, bools, or text as it stands; empty cells are missing."""
    if reading.values is not None:
        return number_series(reading.values)
    filled = [None if cell in cells.EMPTY else cell for cell in column]
    truth = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False,
             "false": False}  # fmt: skip
    if all(cell is None or cell in truth for cell in filled):
        filled = [None if cell is None else truth[cell] for cell in filled]  # type: ignore[misc]
        return pd.Series(filled, dtype=object if None in filled else bool)
    return pd.Series(filled)


def number_series(values: list[Any]) -> pd.Series:
    """Numbers, exact: integers that neither int64 holds, nor a float beside empty cells, stay
    Python's own.
    """
    whole = [abs(v) for v in values if isinstance(v, int)]
    largest, mixed = max(whole, default=0), len(whole) < len(values)
    if largest >= 2**63 or (largest > 2**53 and mixed):
        return pd.Series(values, dtype=object)
    if whole and not mixed:
        return pd.Series(values, dtype="int64")
    return pd.Series([float("nan") if v is None else v for v in values], dtype=float)
