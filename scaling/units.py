"""Numbers as people read them: 1.23M, 3 min 20 s.

Takes plain floats, gives short strings. Called by the status view and by `scaling/report`.
"""

import math

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
