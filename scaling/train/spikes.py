"""Spikes of the loss: found, gone back on, and skipped; the same whenever the run is cut in two.

With `train.spike_z` on, a step whose loss lies that many robust standard deviations above (where
more is better: below) the last `spike_window` losses is a spike (median and MAD: Rousseeuw and
Croux 1993). The run goes back to the last multiple of `spike_window` before it, and from there on
the batches up to the offending one are skipped (as Chowdhery et al. 2022, section 5.1, did by
hand). So step k trains on batch k + what was skipped at or before step k: a function of
`spikes.jsonl`, which the loop writes. A checkpoint carries the losses that the next step is
compared with. Called by the loop.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scaling.config import RunConfig, choices
from scaling.data.batches import Batches, Rows

MOST = 8  # times that a run goes back to the same step
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_LEAST_SPREAD = 1e-4  # of the median: where the losses hardly differ, no rounding is a spike


class Spike(Exception):
    """The loss of a step is out of all proportion; `record` is its line of spikes.jsonl."""

    def __init__(self, record: dict[str, Any]):
        super().__init__(f"loss {record['loss']:.4g} in step {record['step']} is a spike")
        self.record = record


def z_score(loss: float, usual: Sequence[float]) -> float:
    """Robust z-score of a loss among usual ones: (loss - median) / (1.4826 MAD)."""
    median = float(np.median(usual))
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(np.asarray(usual) - median)))
    return (loss - median) / max(spread, _LEAST_SPREAD * abs(median), 1e-12)


class Spikes:
    """What a run knows of its spikes; with `train.spike_z` off it knows, and does, nothing."""

    def __init__(self, config: RunConfig, records: Sequence[Mapping[str, Any]]):
        """`records`: the lines of spikes.jsonl so far."""
        self._z, self._window = config.train.spike_z, config.train.spike_window
        # A loss of which more is better spikes downwards.
        measured = choices.objective(config.objective).metrics["loss"]
        self._sign = 1.0 if measured.better == "lower" else -1.0
        self._skips = [(int(r["back_to"]), int(r["skipped"])) for r in records]
        self._losses: deque[float] = deque(maxlen=self._window)

    @property
    def losses(self) -> list[float] | None:
        """What a checkpoint must carry; None: nothing."""
        return None if self._z is None else list(self._losses)

    def begin(self, losses: Sequence[float] | None) -> None:
        """Go on from a checkpoint that carries `losses`, or from nothing."""
        self._losses = deque(losses or (), maxlen=self._window)

    def look(self, start: int, losses: Sequence[float]) -> None:
        """The losses of the steps after `start`. Raises Spike at the first that is one."""
        if self._z is None:
            return
        for step, loss in enumerate(map(float, losses), start=start + 1):
            full = len(self._losses) == self._window
            z = self._sign * z_score(loss, self._losses) if full and np.isfinite(loss) else 0.0
            if z > self._z and self._times(self._back_to(step)) < MOST:
                back_to = self._back_to(step)
                skipped = step - back_to
                record = {"step": step, "loss": loss, "z": z}
                raise Spike(record | {"back_to": back_to, "skipped": skipped})
            self._losses.append(loss)

    def add(self, record: Mapping[str, Any]) -> None:
        """From now on the batches of this spike are skipped."""
        self._skips.append((int(record["back_to"]), int(record["skipped"])))

    def _back_to(self, step: int) -> int:
        # Not the newest checkpoint that happens to be there: a stop leaves one anywhere.
        return (step - 1) // self._window * self._window

    def _times(self, step: int) -> int:
        return sum(back_to == step for back_to, _ in self._skips)

    def batch_of(self, step: int) -> int:
        """The batch that the update after `step` updates is made on."""
        return step + sum(skipped for back_to, skipped in self._skips if back_to <= step)

    def stream(
        self, batches: Batches, first: int, last: int, rows: Rows, edge: Callable[[int], int]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(step, stacked batches up to `edge(step)`) from step `first` until `last`."""
        turns = {back_to for back_to, _ in self._skips if first < back_to < last}
        bounds = [first, *sorted(turns), last]
        for start, end in itertools.pairwise(bounds):
            yield from self._even(batches, start, end, rows, edge)

    def _even(
        self, batches: Batches, start: int, end: int, rows: Rows, edge: Callable[[int], int]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Steps between which nothing is skipped."""
        ahead = self.batch_of(start) - start

        def group(batch: int) -> int:
            return edge(batch - ahead) - (batch - ahead)

        for batch, stacked in batches.stream(start + ahead, end + ahead, rows, group=group):
            yield batch - ahead, stacked
