"""Secrets that are planted in the train split, to be looked for in what a model has learned.

A canary is "the secret number is 204178356": a phrase and nine digits, drawn (Carlini et al. 2019,
The Secret Sharer, arXiv 1802.08232, section 4). Each stands in as many windows as it is repeated,
over what stood there; of the same form, and in no window, are the references that it is ranked
among. Called by `windows.py` and the record of text.
"""

import functools
from dataclasses import dataclass

import numpy as np

from scaling.data import draws
from scaling.data.kinds.text.fields import TextConfig
from scaling.data.order import nested, permutation

PHRASE = b"\nthe secret number is "
DIGITS = 9
LENGTH = len(PHRASE) + DIGITS + 1  # tokens; the last is a line's end
REFERENCES = 1024


def texts(kind: str, numbers: np.ndarray) -> np.ndarray:
    """The canaries, or references, of these numbers: int32 [B, LENGTH], bytes."""
    digits_BxN = draws.whole(draws.folded(draws.key("canaries", kind), numbers), DIGITS, 10)
    text_BxL = np.empty((len(numbers), LENGTH), np.int32)
    text_BxL[:, : len(PHRASE)] = np.frombuffer(PHRASE, np.uint8)
    text_BxL[:, len(PHRASE) : -1] = digits_BxN + ord("0")
    text_BxL[:, -1] = ord("\n")
    return text_BxL


def repeats(data: TextConfig) -> tuple[int, ...]:
    """How often the planted secrets stand there: the powers of 4; none where nothing is planted."""
    powers = range((data.canary_repeats.bit_length() + 1) // 2)
    return tuple(4**power for power in powers) if data.canaries else ()


@dataclass(frozen=True)
class Planted:
    """Which windows of a train split hold which canary."""

    each: int  # canaries of every number of repeats
    repeats: tuple[int, ...]
    windows: int  # of the training subset
    of: int  # of the whole split

    @functools.cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """The windows that hold one, ascending, and the number of each one's canary."""
        numbers = np.arange(self.each * len(self.repeats))
        canary = np.repeat(numbers, np.repeat(self.repeats, self.each))
        ranks = permutation(self.windows, ("canaries",))[: len(canary)]
        window = nested(self.of)[ranks]
        order = np.argsort(window)
        return window[order], canary[order]

    def over(self, tokens_BxL: np.ndarray, indices: np.ndarray) -> None:
        """Writes the canaries of the windows `indices` [B] over their tokens, from a quarter on."""
        windows, canaries = self.places
        at = np.minimum(np.searchsorted(windows, indices), len(windows) - 1)
        (here,) = (windows[at] == indices).nonzero()
        start = tokens_BxL.shape[1] // 4
        tokens_BxL[here, start : start + LENGTH] = texts("planted", canaries[at[here]])


@dataclass(frozen=True)
class Secrets:
    """The canaries of one number of repeats, then the references: what an exposure is made of."""

    first: int  # number of the first canary
    count: int
    seq_len: int
    separator: int
    mask_documents: bool

    def __len__(self) -> int:
        return self.count + REFERENCES

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The arrays of text [B, L]: a canary at the start of a window, of which only the digits
        count; and `planted` [B], float32: 1 where it was.
        """
        del keys
        planted = indices < self.count
        own, other = indices[planted] + self.first, indices[~planted] - self.count
        text = np.full((len(indices), self.seq_len + 1), self.separator, np.int32)
        text[planted, :LENGTH] = texts("planted", own)
        text[~planted, :LENGTH] = texts("reference", other)
        offsets = np.tile(np.arange(self.seq_len, dtype=np.int32), (len(text), 1))
        counts = (offsets >= len(PHRASE) - 1) & (offsets < LENGTH - 2)
        batch = {
            "tokens": text[:, :-1].copy(),
            "targets": text[:, 1:].copy(),
            "positions": offsets,
            "loss_mask": counts.astype(np.float32),
            "target_bytes": counts.astype(np.int32),
            "planted": planted.astype(np.float32),
        }
        segments = 1 + (offsets >= LENGTH).astype(np.int32)
        return batch | {"segment_ids": segments} if self.mask_documents else batch


def planted(data: TextConfig, of: int) -> Planted | None:
    """What is planted in a train split of `of` windows; None: nothing."""
    if not data.canaries:
        return None
    windows = of if data.unique_tokens is None else min(of, data.unique_tokens // data.seq_len)
    return Planted(data.canaries, repeats(data), windows, of)


def secrets(data: TextConfig, times: int, separator: int) -> Secrets:
    """The canaries that are repeated so often, and the references."""
    first = repeats(data).index(times) * data.canaries
    return Secrets(first, data.canaries, data.seq_len, separator, data.mask_documents)
