"""The answer to a question is a span of the text: cross-entropy of where it begins and ends. No jax
here; `rows.py` computes.

Needs a family whose `spans` [B, L, 2] are logits, and a batch with `start` and `end` int32 [B], the
answer's first and last place, `answerable` [B, L] (0: no place of the text) and `weight` [B].
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric
from scaling.metrics.finish import mean


@dataclass(frozen=True)
class SpansConfig:
    """Cross-entropy of both ends (`scaling/objectives/spans`)."""

    name: Literal["spans"] = "spans"


OBJECTIVE = contracts.Objective(
    config=SpansConfig,
    rows="scaling.objectives.spans.rows:rows",
    outputs=frozenset({"spans"}),
    fields=frozenset({"start", "end", "answerable", "weight"}),
    metrics={
        "loss": Metric("loss", "nats", meaning="mean of that of the first and of the last place"),
        "exact_match": Metric("share of exact matches", better="higher", finish=mean),
        "f1": Metric(
            "F1",
            better="higher",
            finish=mean,
            meaning="2 common places / places of both spans, mean over answers",
        ),
    },
)
