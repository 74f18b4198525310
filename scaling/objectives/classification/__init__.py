"""One label a row out of several classes: cross-entropy in nats. No jax here; `rows.py` computes.

Needs a family whose `out` [B, C] are logits, and a batch with `label` int32 [B] and `weight` [B].
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric
from scaling.config.marks import traced
from scaling.metrics import calibration


@dataclass(frozen=True)
class ClassificationConfig:
    """Cross-entropy of the label (`scaling/objectives/classification`)."""

    name: Literal["classification"] = "classification"
    label_smoothing: float = traced(
        0.0, common=0.1, off=0.0
    )  # share of the target spread evenly over all classes; 0: off


OBJECTIVE = contracts.Objective(
    config=ClassificationConfig,
    rows="scaling.objectives.classification.rows:rows",
    outputs=frozenset({"out"}),
    fields=frozenset({"label", "weight"}),
    metrics={
        "loss": Metric("loss", "nats"),
        "accuracy": Metric("accuracy", better="higher"),
        "brier": Metric("Brier score"),
        "calibration_error": Metric(
            "expected calibration error", finish=calibration.expected_error
        ),
    },
    soft="weight",
    ranges=((("label_smoothing",), contracts.DECAY),),
)
