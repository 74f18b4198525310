"""Patches of an image that the encoder has not seen, from those that it has: MAE. No jax here;
`rows.py` computes.

Needs a family that hides patches where it is given a key for each row: `patches` as it predicts
them, `cut` as they are, and which of them were `masked`; and a batch with `image` and `weight`.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric


@dataclass(frozen=True)
class MaskedPatchesConfig:
    """Squared error of hidden pixels (`scaling/objectives/masked_patches/rows.py`)."""

    name: Literal["masked_patches"] = "masked_patches"
    normalise: bool = False  # each patch with mean 0 and variance 1 is what is predicted


OBJECTIVE = contracts.Objective(
    config=MaskedPatchesConfig,
    rows="scaling.objectives.masked_patches.rows:rows",
    outputs=frozenset({"patches", "cut", "masked"}),
    fields=frozenset({"image", "weight"}),
    metrics={"loss": Metric("squared error of hidden pixels", "pixels²")},
)
