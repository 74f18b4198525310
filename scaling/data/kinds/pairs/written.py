"""Pairs that are made from a number: dates and amounts, and how a language writes them out.

Exact, and as many as there are days and amounts; nothing is stored. The words are those of the
Unicode CLDR, by the package babel. Called by `sources.py`.
"""

import datetime
import functools
from typing import Any

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


class _Written:
    """Pairs of which the sources are numbers, read as a language writes them out."""

    dropped = 0

    def __init__(self, name: str):
        self._locale = locale(name)
        self._name = name
        import babel

        self.content = key_of([type(self).__name__, name, babel.__version__, len(self)])

    def __len__(self) -> int:
        raise NotImplementedError

    def _pair(self, row: int) -> tuple[str, str]:
        raise NotImplementedError

    def _longest(self) -> np.ndarray:
        """Rows among which the longest texts are."""
        raise NotImplementedError

    @functools.cached_property
    def longest(self) -> tuple[int, int]:
        texts = self.take(self._longest())
        return max(len(a) for a, _ in texts), max(len(b) for _, b in texts)

    def take(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        pairs = [self._pair(row) for row in rows.tolist()]
        return [(a.encode(), b.encode()) for a, b in pairs]

    def shared(self, rows: np.ndarray, other: Any, of_other: np.ndarray) -> int:
        """Of two languages, or of amounts and dates, none; of one, what both have."""
        if type(other) is not type(self) or other.content != self.content:
            return 0
        return len(np.intersect1d(rows, of_other))


class Dates(_Written):
    """2026-11-28 to 28. November 2026: every day of 1900 to 2099."""

    _style = "long"

    def __len__(self) -> int:
        return (_LAST - _FIRST).days + 1

    @functools.cached_property
    def meanings(self) -> np.ndarray:
        return draws.folded(draws.key("dates"), np.arange(len(self)))

    def _longest(self) -> np.ndarray:
        return np.arange(*((day - _FIRST).days for day in _ALL_WEEKDAYS))

    def _pair(self, row: int) -> tuple[str, str]:
        from babel.dates import format_date

        day = _FIRST + datetime.timedelta(days=row)
        return day.isoformat(), format_date(day, self._style, self._locale)


class Weekdays(Dates):
    """2026-11-28 to Samstag, 28. November 2026: a calendar has to be learned, too."""

    _style = "full"


class Amounts(_Written):
    """1234.50 EUR to 1.234,50 Euro: hundredths below 1000, in currencies and units. A number goes
    to one split with all that it may count.
    """

    _of = (*_CURRENCIES, *_UNITS)

    def __len__(self) -> int:
        return _NUMBERS * len(self._of)

    @functools.cached_property
    def meanings(self) -> np.ndarray:
        numbers = draws.folded(draws.key("amounts"), np.arange(_NUMBERS))
        return np.repeat(numbers, len(self._of))

    def _longest(self) -> np.ndarray:
        most = _NUMBERS * len(self._of)
        return np.r_[: 200 * len(self._of), most - 2000 : most]

    def _pair(self, row: int) -> tuple[str, str]:
        from babel.numbers import format_currency
        from babel.units import format_unit

        number, kind = divmod(row, len(self._of))
        value, of = number / 100, self._of[kind]
        if of in _UNITS:
            said = format_unit(value, _UNITS[of], "long", locale=self._locale)
        else:
            said = format_currency(value, of, locale=self._locale, format_type="name")
        return f"{value:.2f} {of}", said
