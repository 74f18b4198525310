"""What the ten digits are called, by language. Called by the kinds of data that speak or write
them.
"""

from scaling.errors import SourceError, nearest

DIGITS = {
    "en": "zero one two three four five six seven eight nine",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
}


def digits(language: str) -> tuple[str, ...]:
    """The words of 0 to 9. Raises SourceError for a language that is not among them."""
    if language not in DIGITS:
        raise SourceError(
            f'"{language}" is no language whose digits are known{nearest(language, DIGITS)}; write '
            + ", ".join(DIGITS)
        )
    return tuple(DIGITS[language].split())
