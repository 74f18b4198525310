"""Scenes of three handwritten digits, with what is said or asked of them; each a function of its
number.

One digit is in a corner of a square of four cells, one over or under it, one beside it; the fourth
cell is empty. The pictures are scikit-learn's, and those of the validation split are of its held
out fifth, which training never sees. Called by `kinds/scenes/__init__.py`.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.config.contracts import ENDLESS
from scaling.data import draws, numerals
from scaling.data.kinds.scenes import grammar
from scaling.data.store import key_of
from scaling.errors import SourceError, nearest

VERSION = "v1"  # of all that is drawn here
CELL = 8  # pixels
_MEAN, _STD = 0.23, 0.36  # of the pixels of scenes, between 0 and 1


@dataclass(frozen=True)
class Composed:
    """Scenes without end, of a split."""

    languages: tuple[str, ...]
    asks: bool  # questions with answers, rather than captions
    split: str  # train or validation
    scenes: int  # of the validation split

    channels = 1
    sides = (2 * CELL, 2 * CELL)

    @property
    def content(self) -> str:
        """Hash of all that decides the scenes."""
        return key_of([VERSION, list(self.languages), self.asks, self.scenes])

    @property
    def classes(self) -> int:
        """Answers that there are."""
        return 10 if self.asks else 1

    @property
    def longest(self) -> int:
        """Bytes of the longest text."""
        say: Any = grammar.question if self.asks else grammar.caption
        found = []
        for language in self.languages:
            names = numerals.digits(language)
            long = sorted(range(10), key=lambda digit: -len(names[digit].encode()))
            of = long[0] if self.asks else long[:3]
            found += [
                say(language, *where, of) for where in itertools.product((False, True), repeat=2)
            ]
        return max(len(text.encode()) for text in found)

    def __len__(self) -> int:
        return ENDLESS if self.split == "train" else self.scenes

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
        """Of the numbered scenes: images float32 [B, Y, X, 1], texts, their meanings and answers,
        int32 [B] each.
        """
        key = draws.key("scenes", VERSION, self.split, self.asks, *self.languages)
        drawn_Bx12 = draws.bits(draws.folded(key, rows), 12)
        digits_Bx3, corner_Bx2 = _arranged(drawn_Bx12)
        images = _drawn(digits_Bx3, corner_Bx2, drawn_Bx12[:, 6:9], self.split)
        texts, answers = [], []
        for drawn, digits, (top, left) in zip(
            drawn_Bx12.tolist(), digits_Bx3.tolist(), corner_Bx2.tolist(), strict=True
        ):
            language = self.languages[drawn[9] % len(self.languages)]
            if not self.asks:
                texts.append(grammar.caption(language, top, left, digits))
                answers.append(0)
                continue
            across, of_corner = bool(drawn[10] & 1), bool(drawn[11] & 1)
            # Of the corner's digit and its neighbour one is asked for, and the other is named.
            corner, other = digits[0], digits[2 if across else 1]
            first = (left if across else top) == of_corner
            texts.append(grammar.question(language, across, first, other if of_corner else corner))
            answers.append(corner if of_corner else other)
        places = (corner_Bx2[:, 0] * 2 + corner_Bx2[:, 1]).astype(np.int32)
        meanings = places * 1000 + digits_Bx3.astype(np.int32) @ np.array([100, 10, 1], np.int32)
        return images, texts, meanings, np.array(answers, np.int32)


def languages_of(rest: str) -> tuple[str, ...]:
    """Of "en-de". Raises SourceError for one that nobody has written the words of."""
    found = tuple(rest.split("-"))
    for language in found:
        if language not in grammar.GRAMMARS:
            raise SourceError(
                f'source "digits:{rest}": "{language}" is no language whose words are known'
                f"{nearest(language, grammar.GRAMMARS)}; write {', '.join(grammar.GRAMMARS)}, or "
                "several with a - between"
            )
    return found


def _arranged(drawn_Bx12: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three different digits, int64 [B, 3], and whether the first is at the top and at the left,
    bool [B, 2].
    """
    first, second, third = (drawn_Bx12[:, i] % np.uint64(10 - i) for i in range(3))
    two = (first + second + np.uint64(1)) % np.uint64(10)
    # The third, among the eight others: it steps over those that are taken.
    low, high = np.minimum(first, two), np.maximum(first, two)
    three = third + (third >= low)
    three += three >= high
    corner = (drawn_Bx12[:, 3:5] & np.uint64(1)).astype(bool)
    return np.stack([first, two, three], axis=1).astype(np.int64), corner


def _drawn(
    digits_Bx3: np.ndarray, corner_Bx2: np.ndarray, which_Bx3: np.ndarray, split: str
) -> np.ndarray:
    """float32 [B, 2 CELL, 2 CELL, 1], of mean 0 and variance 1 about."""
    pictures, by_digit = _pictures(split)
    scenes = np.zeros((len(digits_Bx3), 2, 2, CELL, CELL), np.float32)
    number = np.arange(len(digits_Bx3))
    row, column = (1 - corner_Bx2.astype(np.int64)).T
    cells = ((row, column), (1 - row, column), (row, 1 - column))
    for i, (y, x) in enumerate(cells):
        chosen = [
            by_digit[digit][int(which % np.uint64(len(by_digit[digit])))]
            for digit, which in zip(digits_Bx3[:, i], which_Bx3[:, i], strict=True)
        ]
        scenes[number, y, x] = pictures[chosen]
    whole = scenes.swapaxes(2, 3).reshape(-1, 2 * CELL, 2 * CELL, 1)
    return (whole - np.float32(_MEAN)) / np.float32(_STD)


@functools.lru_cache(maxsize=2)
def _pictures(split: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Digits between 0 and 1, float32 [N, CELL, CELL], and which are of each class in a split."""
    from scaling.data.kinds.images import digits_builder

    images, labels = digits_builder.digits()
    is_held = np.zeros(len(images), bool)
    is_held[digits_builder.held_out(images, labels)] = True
    here = is_held if split == "validation" else ~is_held
    by_digit = [(here & (labels == digit)).nonzero()[0] for digit in range(10)]
    return images.astype(np.float32) / 16, by_digit
