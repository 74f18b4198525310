"""Images and texts that belong together, among those of a batch. No jax here; `rows.py` computes.

Needs a family that gives `image_embedding` and `text_embedding` [B, E], `log_scale` [1] and maybe
`bias` [1]; and a batch with `meaning` int32 [B], equal where a text fits the other's image too, and
`weight` [B].
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric


@dataclass(frozen=True)
class ContrastiveConfig:
    """Pairs against all others of the batch (`scaling/objectives/contrastive`)."""

    name: Literal["contrastive"] = "contrastive"
    # softmax: which text of the batch is an image's, and the reverse (CLIP); sigmoid: of each pair
    # whether it is one (SigLIP), for which a bias of -10 is usual (model.bias)
    loss: Literal["softmax", "sigmoid"] = "softmax"


_AMONG = "the share found at rank one among a batch, evals.batch_size of them"

OBJECTIVE = contracts.Objective(
    config=ContrastiveConfig,
    rows="scaling.objectives.contrastive.rows:rows",
    outputs=frozenset({"image_embedding", "text_embedding", "log_scale"}),
    fields=frozenset({"meaning", "weight"}),
    metrics={
        "loss": Metric("loss", "nats"),
        "image_to_text": Metric("texts of images found", better="higher", meaning=_AMONG),
        "text_to_image": Metric("images of texts found", better="higher", meaning=_AMONG),
    },
    couples_rows=True,
)
