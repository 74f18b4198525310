"""What is said of a scene of digits, in several languages. Called by `composed.py`."""

from dataclasses import dataclass

from scaling.data import numerals


@dataclass(frozen=True)
class Grammar:
    """The words beside the digits."""

    above: str
    below: str
    left: str
    right: str
    question: str  # with the place of a relation and of a digit


GRAMMARS = {
    "en": Grammar("above", "below", "left of", "right of", "what is {} {}?"),
    "de": Grammar("über", "unter", "links von", "rechts von", "was ist {} {}?"),
    "fr": Grammar("au-dessus de", "au-dessous de", "à gauche de", "à droite de", "qui est {} {}?"),
    "es": Grammar(
        "encima de", "debajo de", "a la izquierda de", "a la derecha de", "¿qué está {} {}?"
    ),
    "it": Grammar("sopra", "sotto", "a sinistra di", "a destra di", "cosa è {} {}?"),
    "nl": Grammar("boven", "onder", "links van", "rechts van", "wat is {} {}?"),
}


def relation(language: str, across: bool, first: bool) -> str:
    """Of a digit that is first (above, or left) or second; `across`: along a row."""
    words = GRAMMARS[language]
    if across:
        return words.left if first else words.right
    return words.above if first else words.below


def caption(language: str, top: bool, left: bool, digits: list[int]) -> str:
    """Of three digits: one in a corner, one over or under it, one beside it."""
    names = numerals.digits(language)
    one, two, three = (names[digit] for digit in digits)
    vertical, across = relation(language, False, top), relation(language, True, left)
    return f"{one} {vertical} {two}, {across} {three}"


def question(language: str, across: bool, first: bool, digit: int) -> str:
    """For the digit that has this relation to another."""
    name = numerals.digits(language)[digit]
    return GRAMMARS[language].question.format(relation(language, across, first), name)
