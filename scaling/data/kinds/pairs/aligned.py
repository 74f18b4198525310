"""A split of pairs of texts, and its examples as tokens. Called by `kinds/pairs/__init__.py`."""

import functools
from dataclasses import dataclass

import numpy as np

from scaling.data.kinds.pairs.sources import Pairs
from scaling.data.kinds.text.tokenizers import ByteTokenizer


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
    source_len: int
    target_len: int

    def __len__(self) -> int:
        return len(self.of)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered pairs: `source`, `source_segments` int32 [B, S] (1: a token, 0: filled up),
        `tokens`, `targets`, `positions`, `target_bytes` int32 and `loss_mask` float32 [B, T].

        The separator stands before the target in `tokens` and behind it in `targets`: it says where
        to begin, and that all is written. Nothing is drawn, so that `keys` change nothing.
        """
        del keys
        texts = self.of.pairs.take(self.of.rows[indices])
        separator = ByteTokenizer.separator
        source, is_source = _filled([list(a) for a, _ in texts], self.source_len)
        targets, is_target = _filled([[*b, separator] for _, b in texts], self.target_len)
        tokens = np.roll(targets, 1, axis=1)
        tokens[:, 0] = separator
        tokens *= is_target
        return {
            "source": source,
            "source_segments": is_source,
            "tokens": tokens,
            "targets": targets,
            "positions": np.tile(np.arange(self.target_len, dtype=np.int32), (len(texts), 1)),
            "loss_mask": is_target.astype(np.float32),
            "target_bytes": (is_target * (targets != separator)).astype(np.int32),
        }


def _filled(rows: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows filled up with zeros, and 1 where they are not: int32 [B, L] each."""
    tokens, present = np.zeros((2, len(rows), length), np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
        present[i, : len(row)] = 1
    return tokens, present
