"""Cross-entropy of a span's first and last place, with exact matches and F1.

Takes a model's output `spans` (logits [B, L, 2]) and a batch with start, end int32 [B], answerable
[B, L] and weight [B]; gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.objective import Array, Batch, Loss, Rows, Sum
from scaling.objectives.spans import SpansConfig

_NOWHERE = -1e30  # a logit of places that are none; finite, so that rows without any have no NaN


def rows(config: SpansConfig) -> Loss:
    """Mean of the cross-entropies of both ends, in nats (Devlin et al. 2019, section 4.2); of the
    text's places alone.
    """
    del config

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        weight_B = batch["weight"].astype(jnp.float32)
        there_BxLx1 = (batch["answerable"] > 0)[..., None]
        logits_BxLx2 = jnp.where(there_BxLx1, outputs["spans"].astype(jnp.float32), _NOWHERE)
        true_Bx2 = jnp.stack([batch["start"], batch["end"]], axis=1)
        log_p_BxLx2 = jax.nn.log_softmax(logits_BxLx2, axis=1)
        nats_B = -jnp.take_along_axis(log_p_BxLx2, true_Bx2[:, None], axis=1)[:, 0].mean(axis=1)
        said_Bx2 = best(logits_BxLx2)
        exact_B = (said_Bx2 == true_Bx2).all(axis=1).astype(jnp.float32)
        common_B = jnp.minimum(said_Bx2, true_Bx2)[:, 1] - jnp.maximum(said_Bx2, true_Bx2)[:, 0] + 1
        sizes_B = (said_Bx2 + true_Bx2)[:, 1] - (said_Bx2 + true_Bx2)[:, 0] + 2
        f1_B = 2 * jnp.maximum(common_B, 0) / sizes_B
        means = {"exact_match": exact_B, "f1": f1_B}
        sums: dict[str, Sum | Array] = {"loss": Sum(nats_B * weight_B, weight_B)}
        for name, x_B in means.items():
            sums[name] = jnp.stack([x_B * weight_B, weight_B], axis=1)
        return Rows(nats_B * weight_B, {}, sums)

    return Loss(rows_of)


def best(logits_BxLx2: Array) -> Array:
    """int32 [B, 2]: the first and the last place, not before it, of the largest sum of logits."""
    first_BxL, last_BxL = logits_BxLx2[..., 0], logits_BxLx2[..., 1]
    so_far_BxL = jax.lax.cummax(first_BxL, axis=1)
    end_B = jnp.argmax(so_far_BxL + last_BxL, axis=1)
    places_BxL = jax.lax.broadcasted_iota(jnp.int32, first_BxL.shape, 1)
    upto_BxL = jnp.where(places_BxL <= end_B[:, None], first_BxL, -jnp.inf)
    return jnp.stack([jnp.argmax(upto_BxL, axis=1), end_B], axis=1).astype(jnp.int32)
