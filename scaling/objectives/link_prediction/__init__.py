"""Which entity a triple ends in, and which it begins with. No jax here; `rows.py` computes.

Needs a family that gives `tail_scores` and `head_scores` [B, E], and a batch with `head` and `tail`
int32 [B], `true_heads` and `true_tails` [B, E], 1 for each entity that is right there, and `weight`
[B].
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import AT_LEAST_ONE, POSITIVE, Metric
from scaling.metrics.finish import mean


@dataclass(frozen=True)
class LinkPredictionConfig:
    """The right entity against all others, or against some that are drawn."""

    name: Literal["link_prediction"] = "link_prediction"
    loss: Literal["softmax", "margin"] = "softmax"
    negatives: int = 64  # entities that the right one is held against, of each end; of margin
    margin: float = 1.0  # by which its score should be larger than theirs


_RANKED = "of the right entity among all that would make no true triple, both ends"

OBJECTIVE = contracts.Objective(
    config=LinkPredictionConfig,
    rows="scaling.objectives.link_prediction.rows:rows",
    outputs=frozenset({"head_scores", "tail_scores"}),
    fields=frozenset({"head", "tail", "true_heads", "true_tails", "weight"}),
    metrics={
        "loss": Metric("loss", "nats"),
        "reciprocal_rank": Metric(
            "mean reciprocal rank", better="higher", finish=mean, meaning=f"rank {_RANKED}"
        ),
        **{
            f"hits_{most}": Metric(
                f"hits at {most}",
                better="higher",
                finish=mean,
                meaning=f"share of ranks up to {most}, {_RANKED}",
            )
            for most in (1, 3, 10)
        },
    },
    ranges=((("negatives",), AT_LEAST_ONE), (("margin",), POSITIVE)),
    idle=(
        (
            ("objective.negatives", "objective.margin"),
            lambda config: getattr(config.objective, "loss", None) == "margin",
            "objective.loss=margin",
        ),
    ),
)
