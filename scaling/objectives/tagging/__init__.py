"""One tag a token out of several: cross-entropy in nats. No jax here; `rows.py` computes.

Needs a family whose `tags` [B, L, C] are logits, and a batch with `tags` int32 [B, L] and
`tag_mask` [B, L] (0: a token without a tag).
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric
from scaling.metrics import agreement


@dataclass(frozen=True)
class TaggingConfig:
    """Cross-entropy of the tags (`scaling/objectives/tagging`)."""

    name: Literal["tagging"] = "tagging"


OBJECTIVE = contracts.Objective(
    config=TaggingConfig,
    rows="scaling.objectives.tagging.rows:rows",
    outputs=frozenset({"tags"}),
    fields=frozenset({"tags", "tag_mask"}),
    metrics={
        "loss": Metric("loss", "nats/token"),
        "accuracy": Metric("token accuracy", better="higher"),
        "macro_f1": Metric(
            "macro F1",
            better="higher",
            finish=agreement.macro_f1,
            meaning="mean over the tags that occur of 2 right / (said + true)",
        ),
    },
)
