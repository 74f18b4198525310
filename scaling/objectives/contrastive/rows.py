"""Contrastive losses, and how often the right one comes first.

Takes embeddings of length 1; gives `Rows`, float32. A row is compared with all others of the batch
that count and mean something else: what says the same is neither right nor wrong.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.contrastive import ContrastiveConfig
from scaling.objectives.objective import Array, Batch, Loss, Rows, Sum

_OUT = -1e9  # a logit of what is not compared


def rows(config: ContrastiveConfig) -> Loss:
    """softmax: the mean of both directions' cross-entropies (Radford et al. 2021, CLIP, figure 3).
    sigmoid: minus the log-probability of every pair of a row being one or not (Zhai et al. 2023,
    arXiv 2303.15343, algorithm 1).
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        weight_B = batch["weight"].astype(jnp.float32)
        counted_B = weight_B > 0

        def there(name: str) -> Array:
            # What stands in a row without weight has no part in anything, be it NaN.
            return jnp.where(counted_B[:, None], outputs[name].astype(jnp.float32), 0)

        image_BxE, text_BxE = there("image_embedding"), there("text_embedding")
        logits_BxB = jnp.exp(outputs["log_scale"])[None] * (image_BxE @ text_BxE.T)
        own_BxB = jnp.eye(len(weight_B), dtype=bool)
        same_BxB = batch["meaning"][:, None] == batch["meaning"][None]
        compared_BxB = own_BxB | (~same_BxB & counted_B[None] & counted_B[:, None])
        if config.loss == "softmax":
            masked_BxB = jnp.where(compared_BxB, logits_BxB, _OUT)
            nats_B = (_nats(masked_BxB) + _nats(masked_BxB.T)) / 2
        else:
            logits_BxB = logits_BxB + outputs.get("bias", jnp.zeros(1))[None]
            of_pairs_BxB = jax.nn.log_sigmoid(jnp.where(own_BxB, logits_BxB, -logits_BxB))
            nats_B = -jnp.where(compared_BxB, of_pairs_BxB, 0).sum(axis=1)
        masked_BxB = jnp.where(compared_BxB, logits_BxB, _OUT)

        def found(candidates_BxB: Array) -> Sum:
            first_B = jnp.argmax(candidates_BxB, axis=1) == jnp.arange(len(weight_B))
            return Sum(first_B * weight_B, weight_B)

        sums: dict[str, Sum | Array] = {
            "loss": Sum(nats_B * weight_B, weight_B),
            "image_to_text": found(masked_BxB),
            "text_to_image": found(masked_BxB.T),
        }
        return Rows(nats_B * weight_B, {}, sums)

    return Loss(rows_of)


def _nats(logits_BxB: Array) -> Array:
    """Of each row, minus the log-probability of its own column: [B]."""
    own_B = jnp.diagonal(logits_BxB)
    return jax.nn.logsumexp(logits_BxB, axis=1) - own_B
