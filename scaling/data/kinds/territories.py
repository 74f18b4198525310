"""True triples of the world's territories, languages, currencies and time zones: Unicode CLDR, as
the package babel has it, with everything's English name.

Called by the kinds that tell facts and that embed them. CLDR's containment of territories in
continents is not among babel's tables; the areas of its time zones are.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.data.store import key_of
from scaling.errors import SourceError

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Relation -> kinds of what it leads from and to. Of these each head has one value.
ONE_VALUE = {
    "script": ("language", "script"),  # that a language is most likely written in
    "home": ("language", "territory"),  # where a text in it is most likely from
    "place": ("zone", "territory"),  # of a time zone
    "clock": ("zone", "clock"),  # what a time zone follows, by its English name
    "area": ("zone", "area"),  # continent or ocean that the zone is named by
    "week": ("territory", "day"),  # first day of the week
    "tender": ("territory", "currency"),  # where there is one that is legal
    "main language": ("territory", "language"),  # most spoken of those that are official
}
# Of these it may have several; they have what the last two of `ONE_VALUE` say.
MANY_VALUES = {
    "official language": ("territory", "language"),
    "language": ("territory", "language"),  # spoken by some share
    "currency": ("territory", "currency"),  # legal tender
    "former currency": ("territory", "currency"),  # legal tender once
}
RELATIONS = ONE_VALUE | MANY_VALUES


@dataclass(frozen=True)
class Graph:
    """Triples by number."""

    entities: tuple[tuple[str, str], ...]  # (kind, English name), sorted
    triples: np.ndarray  # int32 [N, 3]: head, relation (its place in RELATIONS), tail; sorted
    content: str  # hash

    def prior(self) -> np.ndarray:
        """Bits of each triple's tail to one who knows the relation and how often it has which
        value, and nothing of the head: float64 [N].
        """
        values = [tuple(pair) for pair in self.triples[:, 1:].tolist()]
        of_value, of_relation = Counter(values), Counter(relation for relation, _ in values)
        return np.array([np.log2(of_relation[pair[0]] / of_value[pair]) for pair in values])


@functools.lru_cache(maxsize=2)
def graph(one_value: bool) -> Graph:
    """Of relations with one value for each head, or of all, none of which another repeats.

    Raises SourceError where babel is not installed.
    """
    try:
        import babel  # noqa: F401  # an extra
    except ImportError as error:
        raise SourceError("facts of territories need babel: pip install 'scaling[data]'") from error
    relations = list(ONE_VALUE) if one_value else [*list(ONE_VALUE)[:-2], *MANY_VALUES]
    named = {
        ((RELATIONS[relation][0], head), relation, (RELATIONS[relation][1], tail))
        for head, relation, tail in _all()
        if relation in relations
    }
    entities = tuple(sorted({end for head, _, tail in named for end in (head, tail)}))
    number, places = {one: i for i, one in enumerate(entities)}, list(RELATIONS)
    rows = sorted((number[h], places.index(r), number[t]) for h, r, t in named)
    triples = np.array(rows, np.int32)
    triples.setflags(write=False)
    return Graph(entities, triples, key_of([entities, places, rows]))


def _all() -> Iterator[tuple[str, str, str]]:
    """(head, relation, tail), by English names."""
    import babel
    from babel.core import get_global

    english = babel.Locale.parse("en")
    territories, languages = english.territories, english.languages
    for code, likely in get_global("likely_subtags").items():
        if code in languages and code != "und":
            _, script, home = likely.split("_")
            yield languages[code], "script", english.scripts[script]
            if home in territories:
                yield languages[code], "home", territories[home]
    clocks = get_global("meta_zones")
    for code, zones in get_global("territory_zones").items():
        for zone in (z for z in zones if code in territories and "/" in z):
            yield zone, "place", territories[code]
            yield zone, "area", zone.split("/")[0]
            if zone in clocks:
                yield zone, "clock", clocks[zone].replace("_", " ")
    yield from _of_territories(territories, english, get_global)


def _of_territories(
    territories: Any, english: Any, get_global: Any
) -> Iterator[tuple[str, str, str]]:
    import babel

    for code in sorted(set(get_global("territory_currencies")) & set(territories)):
        tenders = [c for c in get_global("territory_currencies")[code] if c[3]]
        legal = [english.currencies[c[0]] for c in tenders if c[2] is None]
        for name in legal:
            yield territories[code], "currency", name
        if len(set(legal)) == 1:
            yield territories[code], "tender", legal[0]
        for currency, _, end, _ in tenders:
            if end is not None:
                yield territories[code], "former currency", english.currencies[currency]
    for code, spoken in get_global("territory_languages").items():
        known = {k: v for k, v in spoken.items() if k in english.languages}
        for language in known if code in territories else ():
            yield territories[code], "language", english.languages[language]
        official = {k: v for k, v in known.items() if _official(v["official_status"])}
        for language in official if code in territories else ():
            yield territories[code], "official language", english.languages[language]
        if official and code in territories:
            main = max(sorted(official), key=lambda k: official[k]["population_percent"])
            yield territories[code], "main language", english.languages[main]
    for code in territories:
        try:
            locale = babel.Locale.parse(f"und_{code}")
        except (babel.UnknownLocaleError, ValueError):
            continue  # the language of most people there has no locale
        if locale.territory == code:
            yield territories[code], "week", _DAYS[locale.first_week_day]


def _official(status: str | None) -> bool:
    """Of the whole territory, by law or in fact."""
    return status in ("official", "de_facto_official")
