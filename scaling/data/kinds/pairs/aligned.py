"""A split of pairs of texts, and its examples as tokens: bytes, or those of a tokenizer of others.
Called by `kinds/pairs/__init__.py`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data.kinds.pairs.hallucinated import hallucinated
from scaling.data.kinds.pairs.sources import Pairs
from scaling.data.kinds.text import exchanged, pieces
from scaling.data.kinds.text.tokenizers import ByteTokenizer, Tokenizer, chosen

_AT_ONCE = 4096  # pairs that are cut


class Bare(ByteTokenizer):
    """Bytes of texts before which no separator stands, for other programs either."""

    def exported(self) -> tuple[bytes, str]:
        bytes_ = {chr(b): b for b in range(256)}
        return exchanged.exported(bytes_, [], None, before=False), exchanged.SEPARATOR


def tokenizer(data: object, root: Path) -> Tokenizer:
    """That of pairs. Raises DataError where it is one of others that is not there."""
    found = chosen(data, root)
    return Bare() if isinstance(found, ByteTokenizer) else found


@functools.lru_cache(maxsize=16)
def longest(pairs: Pairs, tokenizer: Tokenizer) -> tuple[int, int]:
    """Tokens of the longest source, and of the longest target and its end."""
    if isinstance(tokenizer, ByteTokenizer):
        source, target = pairs.longest
        return source, target + 1
    found = np.array([len(tokenizer.source(b"")), 1])
    most = np.zeros(2, np.int64)
    for at in range(0, len(pairs), _AT_ONCE):
        texts = pairs.take(np.arange(at, min(at + _AT_ONCE, len(pairs))))
        for side, these in enumerate(zip(*texts, strict=True)):
            most[side] = max(most[side], *map(len, tokenizer.encode_many(these)))
    source, target = (most + found).tolist()
    return source, target


@dataclass(frozen=True)
class Split:
    """The pairs of a split: those whose meaning's hash falls to it, so that what is held out is
    never met in training, in whatever words.
    """

    pairs: Pairs
    split: str  # train, validation or all
    fraction: float  # that is held out

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the pairs: int64."""
        return _rows(self.pairs, self.split, self.fraction)


@functools.lru_cache(maxsize=16)
def _rows(pairs: Pairs, split: str, fraction: float) -> np.ndarray:
    if split == "all":
        return np.arange(len(pairs))
    held_out = pairs.meanings < np.uint64(int(fraction * 2**64))
    (rows,) = (held_out if split == "validation" else ~held_out).nonzero()
    rows.setflags(write=False)
    return rows


@dataclass(frozen=True)
class AlignedExamples:
    """The pairs of a split, each side a row of tokens."""

    of: Split
    tokenizer: Tokenizer
    source_len: int
    target_len: int
    hallucinated: float = 0.0  # share of the pairs that are changed where keys are given

    def __len__(self) -> int:
        return len(self.of)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered pairs: `source`, `source_segments` int32 [B, S] (1: a token, 0: filled up),
        `tokens`, `targets`, `positions`, `target_bytes` int32 and `loss_mask` float32 [B, T].

        The separator stands behind the target in `targets`, and what the tokenizer begins with, as
        a rule the same, before it in `tokens`: they say that all is written, and where to begin.
        With keys, some pairs have other letters (`hallucinated.py`).
        """
        texts, cutter = self.of.pairs.take(self.of.rows[indices]), self.tokenizer
        if keys is not None and self.hallucinated:
            texts = hallucinated(texts, keys, self.hallucinated)
        source, is_source = _filled([cutter.source(a) for a, _ in texts], self.source_len)
        located = list(cutter.located([b for _, b in texts]))
        ended = [[*found[0], cutter.separator] for found in located]
        targets, is_target = _filled(ended, self.target_len)
        sizes = [
            pieces.measure(ends, len(b))
            for (_, _, ends), (_, b) in zip(located, texts, strict=True)
        ]
        tokens = np.roll(targets, 1, axis=1)
        tokens[:, 0] = cutter.begins
        tokens *= is_target
        return {
            "source": source,
            "source_segments": is_source,
            "tokens": tokens,
            "targets": targets,
            "positions": np.tile(np.arange(self.target_len, dtype=np.int32), (len(texts), 1)),
            "loss_mask": is_target.astype(np.float32),
            "target_bytes": _filled(sizes, self.target_len)[0],
        }


def _filled(
    rows: Sequence[Sequence[int] | np.ndarray], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows filled up with zeros, and 1 where they are not: int32 [B, L] each."""
    tokens, present = np.zeros((2, len(rows), length), np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        present[i, : len(row)] = 1
    return tokens, present
