"""What a packed group reads: the batches of its members, stacked, made where they are needed.

Takes the members' configs and the group's arrays (`trials.Trials`); gives the batches of a call of
the step and of an evaluation set on the mesh. Members that read the same share the work. Called by
`packed.py`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from scaling import data
from scaling.config import RunConfig
from scaling.costs import counts
from scaling.data import Batches
from scaling.train.passes import EvalSet, eval_set
from scaling.train.trials import Trials

# Passes whose examples depend on what a run is trained on.
_OWN = ("features", "exposure")


class GroupData:
    """Of the members in the slots of `trials`, in their order; all of one program."""

    def __init__(self, configs: Sequence[RunConfig], trials: Trials):
        self._trials, self.shapes = trials, counts.batch_shapes(configs[0])
        train_sets: dict[Any, Batches] = {}
        eval_sets: dict[Any, EvalSet] = {}
        self._train: list[Batches] = []  # of each member
        self.eval_sets: list[dict[str, EvalSet]] = []  # of each member, by name
        for config in configs:
            read = data.drawn_from(config)
            if read not in train_sets:
                train_sets[read] = data.train_batches(config)
            self._train.append(train_sets[read])
            sets = {}
            for name, one in config.evals.sets.items():
                # What a run has seen, or fits a probe to, is its own; other sets are the group's.
                its_own = one.split in ("train", "flipped") or one.by in _OWN
                own = (read, config.train.steps) if its_own else None
                if (name, own) not in eval_sets:
                    eval_sets[name, own] = eval_set(config, name)
                sets[name] = eval_sets[name, own]
            self.eval_sets.append(sets)

    def steps(self, starts: Sequence[int], edges: Sequence[int]) -> Any:
        """The batches with which each member goes from its start to its edge, [T, K, B, L]; where
        nothing is to be done, whatever was there.
        """
        made: dict[tuple[int, int], data.Batch] = {}
        shape = (self._trials.slots, self._trials.config.train.steps_per_call)
        stacked = {n: np.zeros((*shape, *s.shape), s.dtype) for n, s in self.shapes.items()}
        for slot, (start, edge) in enumerate(zip(starts, edges, strict=True)):
            batches = self._train[slot]
            # What other hosts hold, they make.
            for k, step in enumerate(range(start, edge) if slot in self._trials.here else ()):
                key = (id(batches), step)
                if key not in made:
                    made[key] = batches.batch(step)
                for name, value in made[key].items():
                    stacked[name][slot, k] = value
        return self._trials.place_batches(stacked)

    def evaluation(self, sets: Mapping[int, Batches]) -> Iterator[Any]:
        """The batches of one set of each slot, [T, B, L]; sets that have ended give their last one
        again.
        """
        slots = range(self._trials.slots)
        for number in range(max(map(len, sets.values()))):
            made = {id(b): b.batch(min(number, len(b) - 1)) for b in sets.values()}
            any_ = next(iter(made.values()))
            of = [made[id(sets[slot])] if slot in sets else any_ for slot in slots]
            yield self._trials.place_batches(
                {name: np.stack([batch[name] for batch in of]) for name in any_}, rows_first=True
            )


_END: Any = object()


def ahead(items: Iterator[Any], most: int = 2) -> Iterator[Any]:
    """The same items, made in another thread before they are asked for."""
    with ThreadPoolExecutor(1) as pool:
        ask: Callable[[], Future[Any]] = lambda: pool.submit(next, items, _END)  # noqa: E731
        coming = deque(ask() for _ in range(most))
        while (item := coming.popleft().result()) is not _END:
            coming.append(ask())
            yield item
