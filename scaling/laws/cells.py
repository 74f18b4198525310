"""Cells of a text table as numbers, in the ways in which people publish them.

Takes the cells of one column as text and gives their numbers, or the first cell that is none and
why. Read are 70M and 1.4 billion, 1,400,000 and 1_000 and 1 400, 3,5 and 1.400,5, 10^9 and
1.5x10^9, 45 %: what can be meant in one way, by itself or beside the other cells of its column.
1,400 alone is refused. Called by `text_tables.py`, and by `table.py` for text of other files.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

EMPTY = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "none",
})  # fmt: skip
DASHES = frozenset("-–—")  # an empty cell of a column of numbers
POWERS = {
    "k": 3, "K": 3, "M": 6, "G": 9, "B": 9, "b": 9, "T": 12, "P": 15, "E": 18, "Z": 21,
    "thousand": 3, "million": 6, "mn": 6, "billion": 9, "bn": 9, "trillion": 12,
}  # fmt: skip
_SPACES = str.maketrans("\u00a0\u2007\u2009\u202f", "    ")
_WRITTEN = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹×·", "--0123456789xx")
_SUPERSCRIPT = re.compile(r"(?<=10)([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)$")
_DIGITS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_POWER = re.compile(r"([+-]?)(?:(.+?) *[x*] *)?(\d{1,9}) *(?:\^|\*\*) *[{(]?([+-]?\d{1,4})[)}]?")
_UNIT = re.compile(r"(.*?\d[.,]?) ?(%|" + "|".join(sorted(POWERS, key=len, reverse=True)) + ")")
_GROUPS = {
    mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+") for mark in ",._ '’"
}


@dataclass
class Reading:
    """What came of a column."""

    values: list[Any] | None  # int or float a cell, None where empty; None: not all are numbers
    row: int = -1  # the first cell that is no number, or could be two
    why: str = ""  # what is wrong with it
    count: int = 1  # such cells
    unsure: bool = False  # whether all cells are numbers, one of which could be two
    decimal: str = "."  # how the column writes fractions, where it does
    how: dict[str, str] = field(default_factory=dict)  # in which ways -> the first such cell


def read(cells: Sequence[str], decimal: str = "") -> Reading:
    """The numbers of a column.

    Args:
      cells: text [rows], without space around it.
      decimal: "." or ",": how 1,400 and its like are meant where the column does not say; "": they
        are refused.
    """
    if decimal != "," or thousands_or_fraction(cells) is None:
        fast = _fast(cells)
        if fast is not None:
            return Reading(fast)
    parsed = [_Cell(cell) for cell in cells]
    full = [(row, cell) for row, cell in enumerate(parsed) if not cell.empty]
    if bad := [row for row, cell in full if cell.digits is None]:
        return Reading(None, bad[0], "is no number", count=len(bad))
    percent = [cell.unit == "%" for _, cell in full]
    if any(percent) and not all(percent):
        row = full[percent.index(not percent[0])][0]
        why = "stands in a column of numbers with and without %: write all in one way"
        return Reading(None, row, why, unsure=True)
    said = {mark: row for row, cell in reversed(full) if (mark := cell.decimal)}
    if len(said) > 1:
        row = max(said.values())
        why = f"has a decimal {_name(parsed[row].decimal)}, row {min(said.values()) + 1} a decimal "
        why += f"{_name(parsed[min(said.values())].decimal)}: write all in one way"
        return Reading(None, row, why, unsure=True)
    mark = next(iter(said), decimal)
    for row, cell in full:
        if not mark and "," in (cell.digits or ""):
            one, other = (_canonical(cell, m) for m in ".,")
            why = (
                f"could be {_shown(one)} or {_shown(other)}: write it without the comma, or say "
                "how all such cells are meant: --decimal=. or --decimal=,"
            )
            return Reading(None, row, why, unsure=True)
    values: list[Any] = []
    reading = Reading(values, decimal=mark or ".")
    for cell in parsed:
        text = None if cell.empty else _canonical(cell, reading.decimal)
        values.append(None if text is None else _value(text))
        for way in cell.ways(reading.decimal):
            reading.how.setdefault(way, cell.text)
    return reading


def thousands_or_fraction(cells: Sequence[str]) -> int | None:
    """The first row of a column whose points could all set off thousands (1.400); None where some
    cannot, or there are none.
    """
    pointed = [row for row, cell in enumerate(cells) if "." in cell]
    if pointed and all(_GROUPS["."].fullmatch(cells[row]) for row in pointed):
        return pointed[0]
    return None


class _Cell:
    """One cell, taken apart."""

    def __init__(self, text: str):
        self.text = text
        self.empty = text in EMPTY or text in DASHES
        text = " ".join(text.split("\n"))
        self.unit, self.power, self.digits = "", 0, None
        self.grouped = self.decimal = ""
        if self.empty:
            return
        rest = _SUPERSCRIPT.sub(r"^\1", text).translate(_SPACES).translate(_WRITTEN)
        if found := _POWER.fullmatch(rest):
            sign, factor, base, power = found.groups()
            if base != "10":
                self.unit = "^"
                if factor is None and 0 <= int(power) <= 400:
                    self.digits = f"{sign}{int(base) ** int(power)}"
                return
            rest, self.power, self.unit = sign + (factor or "1"), int(power), "^"
        elif (found := _UNIT.fullmatch(rest)) and not _PLAIN.fullmatch(rest):
            rest, self.unit = found.groups()
            self.power = -2 if self.unit == "%" else POWERS[self.unit]
        if _INFINITE.fullmatch(rest) and not self.unit:
            self.digits = rest
            return
        self._digits(rest)

    def _digits(self, rest: str) -> None:
        """Thousands and fraction, as far as the cell itself says which is which."""
        whole, exponent = rest, ""
        if found := re.fullmatch(r"(.*\d[.,]?)([eE][+-]?\d+)", rest):
            whole, exponent = found.groups()
            if self.power:
                return
        for mark in "_ '’":
            if mark in whole:
                head, point, fraction = re.fullmatch(r"([^.,]*)([.,]?)(.*)", whole).groups()  # type: ignore[union-attr]
                if not _GROUPS[mark].fullmatch(head) or not re.fullmatch(r"\d*", fraction):
                    return
                self.grouped, whole = mark, head.replace(mark, "") + point + fraction
        for mark, other in (",.", ".,"):
            head, point, fraction = whole.rpartition(other)
            if point and mark in head:  # 1,400.5
                if _GROUPS[mark].fullmatch(head) and re.fullmatch(r"\d*", fraction):
                    self.grouped, self.decimal = mark, other
                    self.digits = head.replace(mark, "") + "." + fraction + exponent
                return
            if whole.count(mark) > 1:  # 1,400,000
                if _GROUPS[mark].fullmatch(whole) and other not in whole:
                    self.grouped, self.decimal = mark, other
                    self.digits = whole.replace(mark, "") + exponent
                return
        if not _DIGITS.fullmatch(whole.replace(",", ".")):
            return
        self.digits = whole + exponent
        if "," in whole and (self.grouped or exponent or not _GROUPS[","].fullmatch(whole)):
            self.decimal = ","  # 3,5: no thousands
        elif "." in whole and (self.grouped or exponent or not _GROUPS["."].fullmatch(whole)):
            self.decimal = "."

    def ways(self, decimal: str) -> list[str]:
        """In which ways, beside plain digits, the cell is written."""
        out = []
        mark = self.grouped
        if not mark and self.digits and decimal != "," and "," in self.digits:
            mark = ","
        if not mark and self.digits and decimal == "," and "." in self.digits and not self.decimal:
            mark = "."
        if mark:
            out.append(f'thousands set off by "{mark}"')
        if self.decimal == "," or (decimal == "," and "," in (self.digits or "")):
            out.append("decimal commas")
        if self.unit:
            named = {"%": "percent", "^": "powers"}
            out.append(named.get(self.unit, f"{self.unit} for 1e{self.power}"))
        return out


def _canonical(cell: _Cell, decimal: str) -> str:
    """A cell's number as Python writes it, with that mark before fractions."""
    text = cell.digits or ""
    if cell.decimal:
        text = text.replace(",", ".")
    else:
        text = text.replace("." if decimal == "," else ",", "").replace(",", ".")
    return f"{text}e{cell.power}" if cell.power else text


def _value(text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d+", text) and len(text) < 4000:
        return int(text)
    return float(text)


def _shown(text: str) -> str:
    return f"{float(text):.12g}"


def _name(mark: str) -> str:
    return "comma" if mark == "," else "point"


def _fast(cells: Sequence[str]) -> list[Any] | None:
    """The numbers of a column in which all are plain."""
    out: list[Any] = []
    together = " ".join(cells)
    try:
        if not set("_nN") & set(together):
            numbers = list(map(float, cells))
            if max(map(abs, numbers), default=0) < 2**53:  # whole ones are exact as floats
                return numbers if set(".eE") & set(together) else list(map(int, cells))
    except ValueError:
        pass
    try:
        for cell in cells:
            if cell in EMPTY:
                out.append(None)
            elif "_" in cell:
                return None
            else:
                number = float(cell)
                if math.isinf(number) or (number.is_integer() and cell.lstrip("+-").isdecimal()):
                    number = _value(cell)
                out.append(number)
    except ValueError:
        return None
    return out
