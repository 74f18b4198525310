"""Cross-entropy of one tag a token, with accuracy and F1.

Takes a model's output `tags` (logits [B, L, C]) and a batch with tags int32 [B, L] and tag_mask
float32 [B, L]; gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.objective import Batch, Loss, Rows, Sum
from scaling.objectives.tagging import TaggingConfig


def rows(config: TaggingConfig) -> Loss:
    """Cross-entropy in nats, summed over a row's tokens that have a tag."""
    del config

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        weight_BxL = batch["tag_mask"].astype(jnp.float32)
        log_p_BxLxC = jax.nn.log_softmax(outputs["tags"].astype(jnp.float32))
        classes = log_p_BxLxC.shape[-1]
        # One-hot sums: every sharding of the tags can do them.
        true_BxLxC = jax.nn.one_hot(batch["tags"], classes) * weight_BxL[..., None]
        best_BxL = jnp.argmax(log_p_BxLxC, axis=-1)
        said_BxLxC = jax.nn.one_hot(best_BxL, classes) * weight_BxL[..., None]
        loss_B = -jnp.sum(log_p_BxLxC * true_BxLxC, axis=(1, 2))
        right_BxC = jnp.sum(said_BxLxC * true_BxLxC, axis=1)
        count_B = weight_BxL.sum(axis=1)
        parts = (right_BxC, said_BxLxC.sum(axis=1), true_BxLxC.sum(axis=1))
        return Rows(
            loss_B,
            {},
            {
                "loss": Sum(loss_B, count_B),
                "accuracy": Sum(right_BxC.sum(axis=1), count_B),
                "macro_f1": jnp.stack(parts, axis=-1),
            },
        )

    return Loss(rows_of)
