"""Batches as a pure function of (examples, seed, step).

A permutation keyed by seed and epoch gives the order of the examples in training. Any host asks for
any rows of any step and gets the same numbers; grain makes them ahead of time. Made by `runs.py`,
used by the training loop and the evaluation.
"""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scaling.config.amounts import resolved
from scaling.config.contracts import Examples
from scaling.data.clients import Rounds
from scaling.data.mixing import dealt
from scaling.data.order import endless, keys, permutation

Batch = dict[str, np.ndarray]
Rows = slice | np.ndarray | None  # of a batch: a range, or their numbers; None: all


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches over some examples: endless and reshuffled each epoch (`seed` given), or one pass in
    the order of `selection` (`seed` None), its last batch filled up with rows that do not count.
    A range of examples, which has no end, is drawn from.
    """

    examples: Examples
    selection: np.ndarray | range  # of the examples that are used: int64 [num_examples]
    batch_size: int  # rows a batch, over all hosts
    seed: int | None
    steps: int  # batches in a run, or in the pass
    weights: tuple[str, ...] = ()  # fields that are 0 in rows that do not count
    # Other data that rows of training are of, each with its share of them (`mixing.py`)
    others: "tuple[tuple[Batches, float], ...]" = ()
    rounds: Rounds | None = None  # of clients, where these train by themselves

    @property
    def num_examples(self) -> int:
        """Distinct examples."""
        return len(self.selection)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, step: int) -> int:
        """The epoch that the first row of a step belongs to."""
        return step * self.batch_size // self.num_examples

    def batch(self, step: int, rows: Rows = None) -> Batch:
        """The batch of a step, or some rows of it (a host's): a dict of arrays [rows, ...], which
        the kind of data declares (`Kind.shapes`).
        """
        row = np.arange(self.batch_size)[slice(None) if rows is None else rows]
        example = step * self.batch_size + row
        if not self.others:
            return self._at(example)
        found: Batch = {}
        streams = (self, *(batches for batches, _ in self.others))
        for which, here, places in dealt(example, [share for _, share in self.others]):
            for name, value in streams[which]._at(places).items():
                shape = (len(example), *value.shape[1:])
                found.setdefault(name, np.empty(shape, value.dtype))[here] = value
        return found

    def _at(self, example: np.ndarray) -> Batch:
        """The rows at these places of its stream."""
        if isinstance(self.selection, range):
            seed = resolved(self.seed)
            chosen = endless(seed, example)
            return self.examples.take(chosen, keys(seed, np.zeros_like(chosen), chosen))
        if self.rounds is not None:
            chosen = self.selection[self.rounds.taken(example, self.batch_size)]
            return self.examples.take(chosen, keys(resolved(self.seed), example, chosen))
        if self.seed is None:
            counts = example < self.num_examples
            batch = self.examples.take(self.selection[np.minimum(example, self.num_examples - 1)])
            if not counts.all():
                for name in self.weights:
                    batch[name][~counts] = 0
            return batch
        epoch, position = np.divmod(example, self.num_examples)
        index = np.empty_like(example)
        for e in np.unique(epoch):
            order = permutation(self.num_examples, ("epoch", self.seed, int(e)))
            index[epoch == e] = order[position[epoch == e]]
        chosen = self.selection[index]
        return self.examples.take(chosen, keys(self.seed, epoch, chosen))

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
        then have the steps as leading axis, [steps, rows, ...]. Without it each item is one step's
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
