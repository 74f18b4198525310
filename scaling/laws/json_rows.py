"""JSON and JSON lines as a table; a broken line, row or cell is named.

Takes text, gives a pandas table whose integers are exact: those that neither int64 holds, nor a
float beside empty cells, stay Python's own. Called by `table.py`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from scaling.errors import UserError
from scaling.laws.text_tables import number_series


def read_lines(text: str, name: str) -> pd.DataFrame:
    """A table of JSON lines: one object a line, empty lines skipped."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parse(line, f"{name}, line {number}")
            if not isinstance(row, dict):
                raise UserError(
                    f"{name}, line {number} is no JSON object; write one a row, as in "
                    '{"params": 1000000, "loss": 3.5}'
                )
            rows.append(row)
    return of_rows(rows)


def read_whole(text: str, name: str) -> pd.DataFrame:
    """A table of one JSON value: a list of objects, or an object of columns (lists, or objects by
    row name).
    """
    value = _parse(text, name)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return of_rows(value)
    if isinstance(value, dict):
        columns = {k: v if isinstance(v, Mapping) else dict(enumerate(v))
                   for k, v in value.items() if isinstance(v, Mapping | list)}  # fmt: skip
        if len(columns) == len(value):
            names = dict.fromkeys(row for column in columns.values() for row in column)
            return of_rows([{k: c.get(row) for k, c in columns.items()} for row in names])
    raise UserError(f"{name} is no table: a list of objects, or an object of columns, is")


def of_rows(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of values as a table, the columns in the order in which they first appear."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame({
        name: number_series(values)
        if all(v is None or type(v) in (int, float) for v in values)
        else pd.Series(values)
        for name, values in columns.items()
    })  # fmt: skip


def _parse(text: str, where: str) -> Any:
    def pairs(found: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in found:
            if key in out:
                raise UserError(f'{where} names "{key}" twice; rename one')
            out[key] = value
        return out

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as e:
        at = f"column {e.colno}" if e.lineno == 1 else f"line {e.lineno}, column {e.colno}"
        raise UserError(f"{where} is no JSON: {e.msg} at {at}") from None
    except (ValueError, RecursionError) as e:  # an integer of thousands of digits
        raise UserError(f"{where} cannot be read: {e}") from None
