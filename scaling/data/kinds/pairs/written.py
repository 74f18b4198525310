"""Pairs that are made from a number: dates and amounts, and how a language writes them out.

Exact, and as many as there are days and amounts; nothing is stored. The words are those of the
Unicode CLDR, by the package babel. Called by `sources.py`.
"""

import datetime
import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from scaling.data import draws
from scaling.data.store import key_of
from scaling.errors import SourceError

_FIRST, _LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
# Years in which every day of the year falls on every day of the week.
_ALL_WEEKDAYS = (datetime.date(2000, 1, 1), datetime.date(2027, 12, 31))
_NUMBERS = 100_000  # of hundredths, from 0.00
# What an amount is of: how the source writes it, and CLDR's currency or unit.
_CURRENCIES = ("USD", "EUR", "CHF", "GBP")
_UNITS = {
    "km": "length-kilometer",
    "kg": "mass-kilogram",
    "h": "duration-hour",
    "d": "duration-day",
}


def locale(name: str) -> Any:
    """The locale by its CLDR name, such as de or zh_Hans. Raises SourceError."""
    try:
        import babel
    except ImportError as error:
        raise SourceError("pairs of names need babel: pip install 'scaling[data]'") from error
    try:
        return babel.Locale.parse(name)
    except (babel.UnknownLocaleError, ValueError, TypeError):
        raise SourceError(f'"{name}" is no locale that babel knows; write de, or zh_Hans') from None


class Written:
    """Pairs of which the sources are numbers, read as a language writes them out."""

    dropped = 0

    def __init__(
        self,
        what: str,
        name: str,
        pair: Callable[[Any, int], tuple[str, str]],
        meanings: np.ndarray,
        longest: np.ndarray,
    ):
        """Of (locale, row) -> (source, target) for every row of `meanings`; `longest`: rows among
        which the longest texts are. Raises SourceError where there is no such locale.
        """
        self._locale, self._pair, self._longest = locale(name), pair, longest
        self.meanings = meanings
        import babel

        self.content = key_of([what, name, babel.__version__, len(self)])

    def __len__(self) -> int:
        return len(self.meanings)

    @functools.cached_property
    def longest(self) -> tuple[int, int]:
        texts = self.take(self._longest)
        return max(len(a) for a, _ in texts), max(len(b) for _, b in texts)

    def take(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        pairs = [self._pair(self._locale, row) for row in rows.tolist()]
        return [(a.encode(), b.encode()) for a, b in pairs]

    def shared(self, rows: np.ndarray, other: Any, of_other: np.ndarray) -> int:
        """Of two languages, or of amounts and dates, none; of one, what both have."""
        if not isinstance(other, Written) or other.content != self.content:
            return 0
        return len(np.intersect1d(rows, of_other))


def dates(name: str) -> Written:
    """2026-11-28 to 28. November 2026: every day of 1900 to 2099."""
    return _of_days("Dates", name, "long")


def weekdays(name: str) -> Written:
    """2026-11-28 to Samstag, 28. November 2026: a calendar has to be learned, too."""
    return _of_days("Weekdays", name, "full")


def _of_days(what: str, name: str, style: Literal["long", "full"]) -> Written:
    def pair(locale: Any, row: int) -> tuple[str, str]:
        from babel.dates import format_date

        day = _FIRST + datetime.timedelta(days=row)
        return day.isoformat(), format_date(day, style, locale)

    count = (_LAST - _FIRST).days + 1
    meanings = draws.folded(draws.key("dates"), np.arange(count))
    longest = np.arange(*((day - _FIRST).days for day in _ALL_WEEKDAYS))
    return Written(what, name, pair, meanings, longest)


def amounts(name: str) -> Written:
    """1234.50 EUR to 1.234,50 Euro: hundredths below 1000, in currencies and units. A number goes
    to one split with all that it may count.
    """
    kinds = (*_CURRENCIES, *_UNITS)

    def pair(locale: Any, row: int) -> tuple[str, str]:
        from babel.numbers import format_currency
        from babel.units import format_unit

        number, kind = divmod(row, len(kinds))
        value, of = number / 100, kinds[kind]
        if of in _UNITS:
            said = format_unit(value, _UNITS[of], "long", locale=locale)
        else:
            said = format_currency(value, of, locale=locale, format_type="name")
        return f"{value:.2f} {of}", said

    numbers = draws.folded(draws.key("amounts"), np.arange(_NUMBERS))
    most = _NUMBERS * len(kinds)
    longest = np.r_[: 200 * len(kinds), most - 2000 : most]
    return Written("Amounts", name, pair, np.repeat(numbers, len(kinds)), longest)
