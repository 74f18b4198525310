"""Where pairs of texts come from.

Takes what a config calls a source; gives `Pairs`, by number. `written.py` makes those that follow
from a number (dates, amounts), `aligned_files.py` reads a person's own. Called by
`kinds/pairs/__init__.py`.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from scaling.data.kinds.pairs import aligned_files, written
from scaling.data.store import key_of
from scaling.errors import SourceError, nearest

NAMES = ("languages", "territories", "scripts", "variants", "currencies", "units")


class Pairs(Protocol):
    """Pairs by number; each has a meaning, which goes to one split whole."""

    content: str  # hash of all pairs
    dropped: int  # copies of others, which are not among them

    def __hash__(self) -> int:
        """By identity: `find` gives the same object for the same pairs."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def meanings(self) -> np.ndarray:
        """Hash of what each pair means: uint64, even over all of it."""

    @property
    def longest(self) -> tuple[int, int]:
        """Bytes of the longest source and of the longest target."""

    def take(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        """(source, target) of the numbered ones."""

    def shared(self, rows: np.ndarray, other: Any, of_other: np.ndarray) -> int:
        """How many of these are, word for word, among some rows of others."""


class Listed:
    """Pairs that were read, one after the other."""

    def __init__(self, found: Iterable[tuple[str, str, str]]):
        """Of (meaning, source, target); pairs that are word for word others are dropped."""
        rows = list(found)
        first: dict[tuple[bytes, bytes], str] = {}
        for meaning, *texts in rows:
            first.setdefault((texts[0].encode(), texts[1].encode()), meaning)
        self.dropped = len(rows) - len(first)
        self._texts = list(first)
        self.content = key_of([[m, a.decode(), b.decode()] for (a, b), m in first.items()])
        digests = [hashlib.sha256(meaning.encode()).digest()[:8] for meaning in first.values()]
        self.meanings = np.array([int.from_bytes(d, "big") for d in digests], np.uint64)
        self.longest = (
            max((len(a) for a, _ in self._texts), default=0),
            max((len(b) for _, b in self._texts), default=0),
        )

    def __len__(self) -> int:
        return len(self._texts)

    def take(self, rows: np.ndarray) -> list[tuple[bytes, bytes]]:
        return [self._texts[row] for row in rows.tolist()]

    def shared(self, rows: np.ndarray, other: Any, of_other: np.ndarray) -> int:
        if len(of_other) > 10 * len(self) and not isinstance(other, Listed):
            return 0  # what is made from numbers, and what was read
        return len(set(self.take(rows)) & set(other.take(of_other)))


def find(source: str, part: str | None = None, longest: int | None = None) -> Pairs:
    """The pairs of a source; read once a process, and again when its files change.

    Args:
      longest: bytes of a text; pairs with a longer one are left out. None: none are.

    Raises:
      SourceError: there is no such source, locale or part; babel is not installed; a file is not
        there, is not text, or does not hold pairs (it names the file and the line).
    """
    form, _, rest = source.partition(":")
    if form not in _FORMS or not rest:
        raise SourceError(
            f'source "{source}" is no source of pairs{nearest(form, _FORMS)}; write names:en-de, '
            "copies:en+de, dates:de, weekdays:de, amounts:de, lines:<file of sources>=<file of "
            "targets> or table:<file>#<column>,<column>"
        )
    if part is not None and form not in _NAMED:
        raise SourceError(f'source "{source}" has no parts; leave it unset', "part")
    if longest is not None and form in _MADE:
        raise SourceError(
            f'source "{source}" is made, and its texts are all about as long; leave it unset',
            "longest",
        )
    return _found(form, rest, part, longest, aligned_files.stamps(form, rest))


def made(source: str) -> bool:
    """Whether a source's pairs are made from numbers, and were not read."""
    return source.partition(":")[0] in _MADE


@functools.lru_cache(maxsize=16)
def _found(form: str, rest: str, part: str | None, longest: int | None, stamps: object) -> Pairs:
    del stamps
    if form in _MADE:
        return _MADE[form](rest)
    rows = _NAMED[form](rest, part) if form in _NAMED else _OWN[form](rest)
    if longest is not None:
        rows = (row for row in rows if all(len(text.encode()) <= longest for text in row[1:]))
    return Listed(rows)


def _names(locales: str, part: str | None) -> Iterator[aligned_files.Row]:
    """What languages, countries, scripts, currencies and units are called in two languages (the
    Unicode CLDR, as the package babel has it), or in each of several and each of several others:
    `en+nl-de+sv`. Of the targets the first is what is meant where nothing is said; for each other
    one its locale stands before the source: `<sv> Dutch`. All pairs of one thing, of whatever
    languages, are of one split.
    """
    ours, _, theirs = locales.partition("-")
    sources = [written.locale(name) for name in ours.split("+")]
    targets = {name: written.locale(name) for name in theirs.split("+")}
    # Those of the first two languages come first: of pairs that are word for word the same the
    # first one's meaning counts, and so the same are held out as of two languages alone.
    for number, (target, locale) in enumerate(targets.items()):
        asked = f"<{target}> " if number else ""
        for source in sources:
            for name in NAMES if part is None else (_part(part),):
                here, there = called(name, source), called(name, locale)
                both = (key for key in here if key in there)
                yield from ((f"{name}/{key}", asked + here[key], there[key]) for key in both)


def _copies(locales: str, part: str | None) -> Iterator[aligned_files.Row]:
    """The names that things have in any of several languages, each to be written as it is."""
    for given in locales.split("+"):
        locale = written.locale(given)
        for name in NAMES if part is None else (_part(part),):
            for key, text in called(name, locale).items():
                yield f"{name}/{key}", text, text


def _part(part: str) -> str:
    """It, a part of names. Raises SourceError."""
    if part not in NAMES:
        raise SourceError(f'"{part}" is no part of names{nearest(part, NAMES)}', "part")
    return part


def called(name: str, locale: Any) -> dict[str, str]:
    """Of one of `NAMES`, what each thing is called in a locale of babel's."""
    if name != "units":
        return dict(getattr(locale, name))
    from babel.units import get_unit_name

    found = {unit: get_unit_name(unit, "long", locale) for unit in locale.unit_display_names}
    return {unit: said for unit, said in found.items() if said}


_NAMED = {"names": _names, "copies": _copies}
_MADE: dict[str, Callable[[str], Pairs]] = {
    "dates": written.dates,
    "weekdays": written.weekdays,
    "amounts": written.amounts,
}
_OWN: dict[str, Callable[[str], Iterator[aligned_files.Row]]] = {
    "lines": aligned_files.lines,
    "table": aligned_files.table,
}
_FORMS = (*_NAMED, *_MADE, *_OWN)
