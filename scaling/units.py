"""Numbers as people read them: 1.23M, 3 min 20 s; and names for the values that tell groups apart.

Takes plain values, gives short strings. Called by the status view, by `scaling/report` and by all
that group rows by a value: `numbered` says which values are the same, `labels` and `folder_names`
name them, and distinct values never get one name.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def human(count: float | None, digits: int = 3) -> str:
    """1234567 -> "1.23M"; "-" for None and NaN. Decimal steps of a thousand."""
    if count is None or math.isnan(count):
        return "-"
    if math.isinf(count):
        return "∞" if count > 0 else "-∞"
    step = 0
    while abs(count) >= 1000 * (1 - 0.5 * 10.0**-digits) and step < len(PREFIXES) - 1:
        count, step = count / 1000, step + 1
    text = f"{count:.{digits}g}"
    return ("0" if text == "-0" else text) + PREFIXES[step]


def binary(count: float | None) -> str:
    """Bytes in steps of 1024, as memories are sold: "15.75 GiB"; "-" for None."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def duration(seconds: float | None) -> str:
    """200 -> "3 min 20 s"; the two largest units; "-" for None and NaN."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = round(seconds)
    for unit, below, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            rest = (whole % size) // {"h": 3600, "min": 60, "s": 1}[below]
            return f"{whole // size} {unit} {rest} {below}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _key(value: Any) -> tuple[str, Any]:
    """Equal keys, one group. Empty cells (None, NaN, pandas' NA and NaT) are one value, 1 and 1.0
    are one number, and True is no number.
    """
    if getattr(value, "ndim", 1) == 0 and value.dtype.kind in "biufU":  # a scalar of numpy
        short = value.dtype.kind == "f" and value.dtype.itemsize < 8
        value = float(str(value)) if short else value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return "empty", None
    if isinstance(value, bool | str):
        return ("text", str(value)) if isinstance(value, str) else ("bool", value)
    if isinstance(value, int | float):
        return ("number", value) if value == value else ("empty", None)
    return "other", repr(value)


def numbered(values: Iterable[Any]) -> list[int]:
    """The group of each value: 0, 1, ... in the order in which distinct values first appear."""
    seen: dict[tuple[str, Any], int] = {}
    return [seen.setdefault(_key(value), len(seen)) for value in values]


def labels(values: Iterable[Any]) -> list[str]:
    """One label for each group value, in order: equal exactly where the values are.

    Args:
      values: numbers, text, bools, None, mixed as they come; empty cells are "None".

    Numbers of up to six digits are written whole (0.9999, 131072), others in three digits or as
    many as tell them apart (1.23M; 1.2345M beside 1.2346M). Text that another label spells the
    same, or whose ends cannot be seen, is quoted.
    """
    keys = [_key(value) for value in values]
    names = {key: _number(key[1], 3) for key in keys if key[0] == "number"}
    _grow(names, lambda key, digits: _number(key[1], digits), 4)
    names |= {key: str(key[1]) for key in keys if key[0] not in ("number", "text")}
    taken = set(names.values())
    for key in keys:
        if key[0] == "text":
            text = key[1]
            plain = text == text.strip() and text.isprintable() and text[:1] not in ("", '"')
            names[key] = text if plain and text not in taken else json.dumps(text)
    return [names[key] for key in keys]


def folder_names(values: Iterable[Any]) -> list[str]:
    """One name of a file or folder for each group value, in order: equal exactly where the values
    are, also on file systems that do not tell case or composed letters apart.

    What cannot stand in a name becomes "-"; names that then agree, or are empty or long, end in a
    few digits of the label's hash.
    """
    given = labels(values)
    names = {}
    for label in given:
        clean = re.sub(r"[^\w.+=-]+", "-", label).lstrip(".").rstrip("-.") or "value"
        names[label] = clean if len(clean) <= 60 else _hashed(clean, label, 6)
    _grow(names, lambda label, digits: _hashed(names[label], label, digits), 6, _same_file)
    return [names[label] for label in given]


def _number(value: float, digits: int) -> str:
    """A number in `digits` significant digits, or whole where six say it all; exact from 18 on."""
    try:
        if value == 0 or (1e-4 <= abs(value) < 1e6 and float(f"{value:.6g}") == value):
            return f"{value + 0:.6g}"
        return human(value, digits) if digits < 18 else repr(value)
    except OverflowError:  # an integer beyond all floats
        return repr(value)


def _grow(
    names: dict[Any, str],
    longer: Callable[[Any, int], str],
    digits: int,
    same: Callable[[str], str] = str,
) -> None:
    """Makes names that agree longer, until none do."""
    while True:
        count = Counter(same(name) for name in names.values())
        twice = [key for key, name in names.items() if count[same(name)] > 1]
        if not twice:
            return
        names.update({key: longer(key, digits) for key in twice})
        digits += 1


def _same_file(name: str) -> str:
    """What a file system that folds case and composes letters makes of a name."""
    return unicodedata.normalize("NFKC", name).casefold()


def _hashed(name: str, label: str, digits: int) -> str:
    """A name, cut, with the first digits of its label's hash."""
    return (
        f"{name[:40]}-{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:digits]}"
    )
