"""A split of a corpus as windows of tokens: what a batch of text is made of."""

from dataclasses import dataclass

import numpy as np

from scaling.data.kinds.text.canaries import Planted
from scaling.data.kinds.text.corpus import Corpus


@dataclass(frozen=True)
class Windows:
    """A split of a corpus cut into windows of `seq_len` tokens.

    Window i has the tokens i L to i L + L - 1 as inputs and each one's successor as its target, so
    every token but the first of the split is predicted exactly once (the last ones, too few for a
    window, are left out).
    """

    corpus: Corpus
    split: str
    seq_len: int
    mask_documents: bool
    planted: Planted | None = None  # canaries, in the train split

    def __len__(self) -> int:
        return max(0, (len(self.corpus.tokens(self.split)) - 1) // self.seq_len)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The windows of some indices [B]: a dict of arrays [B, L]. Nothing in them is drawn, so
        that `keys` change nothing.

        `tokens`, `targets`: int32 ids. `positions`: int32, from 0 at the start of the window and,
        if documents are masked, of each document. `segment_ids`, if they are: int32, documents
        numbered from 1 within the window. `loss_mask`: float32, 1 where the target counts.
        `target_bytes`: int32, bytes of text that the target stands for, 0 for the separator and
        where the mask is 0; bits per byte = sum of nats / ln 2 / sum of target_bytes.
        """
        windows = self._windows(indices)
        tokens = windows[:, :-1].astype(np.int32)
        targets = windows[:, 1:].astype(np.int32)
        positions, segments = self._documents(tokens)
        batch = {
            "tokens": tokens,
            "targets": targets,
            "positions": positions,
            "loss_mask": np.ones(tokens.shape, np.float32),
            "target_bytes": self._bytes(targets, indices, 1),
        }
        return batch | {"segment_ids": segments} if self.mask_documents else batch

    def token_bytes(self, indices: np.ndarray) -> np.ndarray:
        """Bytes of text that the `tokens` of windows stand for: int32 [B, L]."""
        return self._bytes(self._windows(indices)[:, :-1], indices, 0)

    def _windows(self, indices: np.ndarray) -> np.ndarray:
        """[B, L + 1]."""
        windows = self._cut(self.corpus.tokens(self.split), indices)
        if self.planted is not None:
            windows = windows.astype(np.int32)
            self.planted.over(windows, indices)
        return windows

    def _bytes(self, tokens: np.ndarray, indices: np.ndarray, first: int) -> np.ndarray:
        """Of tokens [B, L] that begin at the place `first` of their windows."""
        if self.corpus.token_bytes is not None:
            return self.corpus.token_bytes.take(tokens)
        found = self._cut(self.corpus.bytes(self.split), indices)
        return found[:, first : first + self.seq_len].astype(np.int32)

    def _cut(self, stream: np.ndarray, indices: np.ndarray) -> np.ndarray:
        cut = np.lib.stride_tricks.sliding_window_view(stream, self.seq_len + 1)
        return cut[:: self.seq_len][indices]

    def _documents(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions within the document, and documents numbered from 1: int32 [B, L] each."""
        offsets = np.arange(self.seq_len, dtype=np.int32)
        positions = np.tile(offsets, (len(tokens), 1))
        segments = np.ones(tokens.shape, np.int32)
        if self.mask_documents:
            starts = tokens == self.corpus.separator
            starts[:, 0] = False  # whatever a window begins with is its first document
            (rows,) = starts.any(axis=1).nonzero()  # most windows lie within one document
            starts = starts[rows]
            segments[rows] += np.cumsum(starts, axis=1, dtype=np.int32)
            positions[rows] -= np.maximum.accumulate(starts * offsets, axis=1)
        return positions, segments
