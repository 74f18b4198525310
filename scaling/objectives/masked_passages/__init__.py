"""Masked tokens, and whether the second of two passages follows on the first (Devlin et al. 2019,
section 3.1). No jax here; `rows.py` computes.

Needs what masked tokens need, with `token_mask` for `loss_mask`, so that these alone are not
trained on two passages; and `follows`: of a family logits [B, 2], of a batch int32 [B], with
`weight` [B].
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.contracts import NOT_NEGATIVE, Metric
from scaling.config.marks import traced
from scaling.objectives.masked_tokens import OBJECTIVE as MASKED
from scaling.objectives.masked_tokens import MaskedTokensConfig


@dataclass(frozen=True)
class MaskedPassagesConfig(MaskedTokensConfig):
    """Masked tokens, and the order of passages (`scaling/objectives/masked_passages`)."""

    name: Literal["masked_passages"] = "masked_passages"  # type: ignore[assignment]
    follows: float = traced(1.0)  # weight of the passages' loss beside that of the masked tokens


OBJECTIVE = dataclasses.replace(
    MASKED,
    config=MaskedPassagesConfig,
    rows="scaling.objectives.masked_passages.rows:rows",
    outputs=MASKED.outputs | {"follows"},
    fields=frozenset({"tokens", "token_mask", "follows", "weight"}),
    metrics={
        **MASKED.metrics,
        "follows_loss": Metric("loss of passages", "nats"),
        "follows_accuracy": Metric("accuracy of passages", better="higher"),
    },
    ranges=(*MASKED.ranges, (("follows",), NOT_NEGATIVE)),
)

__all__ = ["OBJECTIVE", "MaskedPassagesConfig"]
