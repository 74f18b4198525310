"""By which quarter turn an image was turned: cross-entropy in nats. No jax; `rows.py` computes.

Needs a family whose `out` [B, C] are logits of at least four classes, and a batch with square
`image` and `weight`. No label is read: give the model `classes=4`.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric


@dataclass(frozen=True)
class RotationPredictionConfig:
    """Each image in all four turns (`scaling/objectives/rotation_prediction/rows.py`)."""

    name: Literal["rotation_prediction"] = "rotation_prediction"


OBJECTIVE = contracts.Objective(
    config=RotationPredictionConfig,
    rows="scaling.objectives.rotation_prediction.rows:rows",
    outputs=frozenset({"out"}),
    fields=frozenset({"image", "weight"}),
    metrics={
        "loss": Metric("loss", "nats"),
        "accuracy": Metric("turns told apart", better="higher"),
    },
)
