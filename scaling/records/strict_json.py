"""Strict JSON, in which numbers that are not finite are strings: what every reader can read.

`encode` gives the bytes of a value with a newline, `decode_line` reads one object back. Called by
`scaling/records/directory.py` and `scaling/records/tables.py`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _plain(value: Any) -> Any:
    """`value` as strict JSON: numpy scalars as numbers, what is not finite as a string."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def encode(value: Any, indent: int | None = None) -> bytes:
    """UTF-8 with a newline at the end; one line without `indent`."""
    return (json.dumps(_plain(value), indent=indent, allow_nan=False) + "\n").encode()


def decode_line(text: bytes) -> dict[str, Any]:
    """The object of a line. Raises ValueError if it is none."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return {k: NOT_FINITE.get(v, v) if isinstance(v, str) else v for k, v in values.items()}
