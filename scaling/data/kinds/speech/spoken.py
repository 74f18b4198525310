"""Utterances that eSpeak NG speaks: what is said, by whom and how, each a function of its number.

Takes `digits:<language>`, `dates:<locale>` or `names:<locale>`; gives texts, voices and audio.
A voice is one of eSpeak's variants (a throat, so to say); its language's accents, the speed and the
pitch are drawn for every utterance. Called by `sources.py`.
"""

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data import draws, numerals
from scaling.data.kinds.pairs import written
from scaling.data.kinds.speech import synthesizer
from scaling.errors import SourceError

VERSION = "v1"  # of all that is drawn here
COUNT = 2000  # utterances, where nobody says how many
_MOST_DIGITS = 5
_ACCENTS = {
    "en": ("gmw/en", "gmw/en-US", "gmw/en-GB-x-rp", "gmw/en-GB-scotland", "gmw/en-US-nyc"),
}
# Variants that sound like people, and not alike: neither whispers nor robots.
_VARIANTS = """f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alex Alicia Andrea Andy Annie Denis Diogo Gene
Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen adam anika aunty belinda benjamin boris
david ed edward grandma grandpa gustave ian iven linda marcelo max michel miguel norbert pablo paul
pedro quincy rob robert sandro shelby steph travis victor zac"""
VOICES = _VARIANTS.split()


def plan(source: str, count: int) -> tuple[list[str], list[str], list[list[Any]]]:
    """Of the first `count` utterances: their texts, their voices, and what the synthesizer is to be
    asked for. Raises SourceError.
    """
    form, _, language = source.partition(":")
    say = FORMS[form](language)
    accents = _ACCENTS.get(language, (language.replace("_", "-").lower(),))
    keys = draws.folded(draws.key("speech", source, VERSION), np.arange(count))
    texts, voices, requests = [], [], []
    for row in draws.bits(keys, 6 + _MOST_DIGITS).tolist():
        of_voice, of_accent, speed, pitch, reach, *rest = row
        text, voice = say(rest), VOICES[of_voice % len(VOICES)]
        texts.append(text.lower())
        voices.append(voice)
        accent = accents[of_accent % len(accents)]
        how = [130 + speed % 111, 20 + pitch % 61, 20 + reach % 61]
        requests.append([f"{accent}+{voice}", *how, text])
    return texts, voices, requests


def speak(requests: list[list[Any]], rate: int, folder: Path) -> None:
    """The audio of the requests, into a folder. Raises SourceError where eSpeak NG is not installed
    or has no such voice.
    """
    done = subprocess.run(
        [sys.executable, str(Path(synthesizer.__file__)), str(folder)],
        input=json.dumps({"rate": rate, "requests": requests}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise SourceError(
            f"nothing was spoken: {why[0]}; eSpeak NG is in pip install scaling[data]"
        )


def _digits(language: str) -> Callable[[list[int]], str]:
    words = numerals.digits(language)

    def say(bits: list[int]) -> str:
        count = 1 + bits[0] % _MOST_DIGITS
        return " ".join(words[one % 10] for one in bits[1 : 1 + count])

    return say


def _dates(name: str) -> Callable[[list[int]], str]:
    locale, first = written.locale(name), datetime.date(1900, 1, 1)

    def say(bits: list[int]) -> str:
        from babel.dates import format_date

        return format_date(first + datetime.timedelta(days=bits[0] % 73049), "long", locale)

    return say


def _names(name: str) -> Callable[[list[int]], str]:
    locale = written.locale(name)
    words = sorted({*locale.languages.values(), *locale.territories.values()})
    return lambda bits: words[bits[0] % len(words)]


# Language or locale -> (random numbers) -> what is said.
FORMS: dict[str, Callable[[str], Callable[[list[int]], str]]] = {
    "digits": _digits,
    "dates": _dates,
    "names": _names,
}
