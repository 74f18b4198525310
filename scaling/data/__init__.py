"""Data: a kind (`kinds/`) reads a source and gives examples by number; `runs.py` says which of them
a run trains on and is evaluated on, `batches.py` makes `batch(step)` of them.

`describe` gives `scaling.config.resolve` the facts, preparing the data if need be; `train_batches`,
`eval_batches` and `probe_batches` give a resolved run its batches, `training_set` all that it draws
from. NumPy only: nothing here touches a device.
"""

from scaling.data.batches import Batch, Batches
from scaling.data.runs import (
    about,
    batch_shapes,
    describe,
    drawn_from,
    eval_batches,
    probe_batches,
    train_batches,
    training_set,
)

__all__ = [
    "Batch",
    "Batches",
    "about",
    "batch_shapes",
    "describe",
    "drawn_from",
    "eval_batches",
    "probe_batches",
    "train_batches",
    "training_set",
]
