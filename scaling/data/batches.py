"""Batches as a pure function of (windows, seed, step).

A corpus's token stream is cut into windows; a permutation keyed by seed and epoch gives their order
in training. Any host asks for any rows of any step and gets the same numbers; grain makes them
ahead of time. Made by `runs.py`, used by the training loop and the evaluation.
"""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scaling.data.corpus import Corpus
from scaling.data.order import permutation

Batch = dict[str, np.ndarray]
Rows = slice | np.ndarray | None  # of a batch: a range, or their numbers; None: all


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

    def __len__(self) -> int:
        return max(0, (len(self.corpus.tokens(self.split)) - 1) // self.seq_len)

    def take(self, indices: np.ndarray) -> Batch:
        """The windows of some indices [B]; see `Batches.batch` for what is in it."""
        stream, length = self.corpus.tokens(self.split), self.seq_len
        windows = np.lib.stride_tricks.sliding_window_view(stream, length + 1)[::length][indices]
        tokens = windows[:, :-1].astype(np.int32)
        targets = windows[:, 1:].astype(np.int32)
        positions, segments = self._documents(tokens)
        batch = {
            "tokens": tokens,
            "targets": targets,
            "positions": positions,
            "loss_mask": np.ones(tokens.shape, np.float32),
            "target_bytes": self.corpus.token_bytes.take(targets),
        }
        return batch | {"segment_ids": segments} if self.mask_documents else batch

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


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches over some windows: endless and reshuffled each epoch (`seed` given), or one pass in
    the order of `selection` (`seed` None), its last batch filled up with rows that do not count.
    """

    windows: Windows
    selection: np.ndarray  # indices of the windows that are used: int64 [num_windows]
    batch_size: int  # windows a batch, over all hosts
    seed: int | None
    steps: int  # batches in a run, or in the pass

    @property
    def num_windows(self) -> int:
        """Distinct windows."""
        return len(self.selection)

    @property
    def unique_tokens(self) -> int:
        """Distinct training (or evaluation) tokens."""
        return self.num_windows * self.windows.seq_len

    def __len__(self) -> int:
        return self.steps

    def epoch(self, step: int) -> int:
        """The epoch that the first row of a step belongs to."""
        return step * self.batch_size // self.num_windows

    def batch(self, step: int, rows: Rows = None) -> Batch:
        """The batch of a step, or some rows of it (a host's): a dict of arrays [rows, L].

        `tokens`, `targets`: int32 ids. `positions`: int32, from 0 at the start of the window and,
        if documents are masked, of each document. `segment_ids`, if they are: int32, documents
        numbered from 1 within the window. `loss_mask`: float32, 1 where the target counts.
        `target_bytes`: int32, bytes of text that the target stands for, 0 for the separator and
        where the mask is 0; bits per byte = sum of nats / ln 2 / sum of target_bytes.
        """
        row = np.arange(self.batch_size)[slice(None) if rows is None else rows]
        example = step * self.batch_size + row
        if self.seed is None:
            counts = example < self.num_windows
            batch = self.windows.take(self.selection[np.minimum(example, self.num_windows - 1)])
            if not counts.all():
                batch["loss_mask"][~counts] = 0
                batch["target_bytes"][~counts] = 0
            return batch
        return self.windows.take(self._shuffled(example))

    def _shuffled(self, example: np.ndarray) -> np.ndarray:
        epoch, position = np.divmod(example, self.num_windows)
        index = np.empty_like(example)
        for e in np.unique(epoch):
            order = permutation(self.num_windows, ("epoch", self.seed or 0, int(e)))
            index[epoch == e] = order[position[epoch == e]]
        return self.selection[index]

    def stream(
        self,
        start: int,
        stop: int,
        rows: Rows = None,
        workers: int = 0,
        prefetch: int = 2,
        group: Callable[[int], int] | None = None,
    ) -> Iterator[tuple[int, Batch]]:
        """(step, batch) for start <= step < stop, made ahead of time by grain.

        `group(step)` says how many steps are wanted in one item that begins at `step`; its arrays
        then have the steps as leading axis, [steps, rows, L]. Without it each item is one step's
        batch, without that axis. `prefetch` is how many items are made ahead, by a thread (0: none)
        or by `workers` processes. The items do not depend on any of the three.
        """
        import grain

        items = _Items(self, _Groups(start, stop, group), rows, group is not None, workers > 0)
        read = grain.ReadOptions(num_threads=min(1, prefetch), prefetch_buffer_size=prefetch)
        dataset = grain.MapDataset.source(items).to_iter_dataset(read)
        if workers:
            _parse_flags()
            processes = grain.multiprocessing.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(1, prefetch)
            )
            dataset = dataset.mp_prefetch(processes)
        iterator = iter(dataset)
        try:
            for item in iterator:
                step, batch = pickle.loads(item) if workers else item
                if step == stop:
                    return
                yield step, batch
        finally:
            iterator.close()


class _Groups:
    """(first step, number of steps) of each item of a stream, found when it is asked for: what a
    run of many steps needs in memory, and before its first batch, is that of a short one.
    """

    def __init__(self, start: int, stop: int, group: Callable[[int], int] | None):
        self.start, self.stop, self.group = start, stop, group
        self._last = 0, start  # an item and its first step, from which later ones are reached

    def __len__(self) -> int:
        """At least the number of items: what lies past the last one begins at `stop`."""
        return max(0, self.stop - self.start)

    def __getitem__(self, index: int) -> tuple[int, int]:
        if self.group is None:
            return self.start + index, 1
        at, step = self._last if self._last[0] <= index else (0, self.start)
        while at < index and step < self.stop:
            at, step = at + 1, step + self._steps(step)
        self._last = at, step
        return step, self._steps(step) if step < self.stop else 0

    def _steps(self, step: int) -> int:
        return min(self.group(step) if self.group else 1, self.stop - step)


@dataclass(frozen=True)
class _Items:
    """What grain reads: item i, by itself; past the last one, the last step and no batch."""

    batches: Batches
    groups: _Groups
    rows: Rows
    stacked: bool
    # Between processes an item goes as bytes: grain would put each array into a shared-memory
    # segment of its own, which costs ten times more, and loses track of some at the end.
    pickled: bool

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> tuple[int, Batch] | bytes:
        start, steps = self.groups[index]
        several = [self.batches.batch(step, self.rows) for step in range(start, start + steps)]
        batch = several[0] if several else {}
        if self.stacked and several:
            batch = {name: np.stack([b[name] for b in several]) for name in batch}
        return pickle.dumps((start, batch)) if self.pickled else (start, batch)


def _parse_flags() -> None:
    """grain's worker processes read absl flags, which a test or a notebook has not parsed."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
