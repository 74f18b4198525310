"""FLOPs, bytes and parameters, counted from the program: any function's (`ledger`), a run's
(`counts`). Nothing is compiled and no device is touched.
"""

from scaling.costs.counts import (
    PASSES,
    batch_shapes,
    gradient,
    optimizer_ledger,
    params_shapes,
    parts_ledger,
    pipeline_overhead,
    train_ledger,
)

__all__ = [
    "PASSES",
    "batch_shapes",
    "gradient",
    "optimizer_ledger",
    "params_shapes",
    "parts_ledger",
    "pipeline_overhead",
    "train_ledger",
]
