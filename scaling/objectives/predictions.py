"""What a model predicts of a label or of each token, as numbers: its logits, and the likelihood of
labels drawn from them. Called by distillation, and by what estimates Fisher information.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.next_token.cross_entropy import logits
from scaling.objectives.objective import Array


def logits_of(outputs: Mapping[str, Any]) -> Array:
    """float32 [B, classes], or [B, L, tokens]."""
    return logits(outputs) if "head" in outputs else outputs["out"].astype(jnp.float32)


def own_surprise(outputs: Mapping[str, Any], weight: Array, key: jax.Array) -> Array:
    """Minus the log-likelihood of labels that are drawn from the predictions, summed over all of
    them, each times its weight ([B] or [B, L]): nats, float32 scalar.

    The mean of its gradient over draws is zero, and that of its square the diagonal of the Fisher
    information, summed over the predictions.
    """
    scores = jax.nn.log_softmax(logits_of(outputs))
    drawn = jax.random.categorical(key, jax.lax.stop_gradient(scores))
    chosen = jnp.take_along_axis(scores, drawn[..., None], axis=-1)[..., 0]
    counted = weight.astype(jnp.float32)
    # What stands in a place without weight has no part in anything, be it NaN.
    return -jnp.where(counted > 0, chosen * counted, 0).sum()
