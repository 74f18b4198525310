"""Pairs of texts with other letters in what both share: `data.hallucinated`.

Takes texts that training is about to see, and a key for each pair; gives them with some changed.
What a name is made of is then drawn, and what is done to it (an ending, a c that becomes a k) is
still there: data hallucination (Anastasopoulos and Neubig 2019, arXiv 1908.05838, section 3.3).
Called by `aligned.py`.
"""

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from scaling.data import draws

_LEAST = 3  # characters of a stretch that counts as shared, as in the paper
# Of its characters, those that stay on a side where the texts differ, which the difference may be
# due to: the i of -ish and -isch.
_EDGE = 2
_KINDS = ("aeiou", "bcdfghjklmnpqrstvwxyz", "0123456789")  # one is drawn for one of its own kind
_KIND = {character: kind for kind in _KINDS for character in kind}


def hallucinated(
    texts: Sequence[tuple[bytes, bytes]], keys: np.ndarray, share: float
) -> list[tuple[bytes, bytes]]:
    """The pairs, of which that `share` has drawn characters in all stretches of three or more that
    stand in both texts in the same order.

    Letters a to z become such letters, vowels vowels and capitals capitals, digits become digits;
    all else stays, and no text becomes longer. What is not UTF-8 stays.

    Args:
      keys: uint64 [B], of which alone it depends what is drawn.
    """
    most = max((len(source) for source, _ in texts), default=0)
    numbers = draws.bits(keys, most + 1)
    chosen = (numbers[:, 0] >> np.uint64(11)) < share * 2.0**53
    rows = zip(texts, chosen.tolist(), numbers[:, 1:].tolist(), strict=True)
    return [_changed(pair, drawn) if is_one else pair for pair, is_one, drawn in rows]


def _changed(pair: tuple[bytes, bytes], drawn: Sequence[int]) -> tuple[bytes, bytes]:
    try:
        source, target = (list(text.decode()) for text in pair)
    except UnicodeDecodeError:
        return pair
    for one, other in _shared(source, target):
        source[one] = target[other] = _other(source[one], drawn[one])
    return "".join(source).encode(), "".join(target).encode()


def _shared(source: Sequence[str], target: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of the characters that both have, in stretches that are long enough."""
    matcher = difflib.SequenceMatcher(None, source, target, autojunk=False)
    for first, other, length in matcher.get_matching_blocks():
        if length < _LEAST:
            continue
        begin = 0 if first == other == 0 else _EDGE
        ends = first + length == len(source) and other + length == len(target)
        for place in range(begin, length if ends else length - _EDGE):
            yield first + place, other + place


def _other(character: str, number: int) -> str:
    """One of its kind."""
    kind = _KIND.get(character.lower())
    if kind is None:
        return character
    found = kind[number % len(kind)]
    return found.upper() if character.isupper() else found
