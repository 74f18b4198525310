"""The loss of masked tokens and that of passages. As `masked_tokens/rows.py`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.masked_passages import MaskedPassagesConfig
from scaling.objectives.masked_tokens.rows import masked
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum


def rows(config: MaskedPassagesConfig) -> Loss:
    """The sum of the two means: over masked tokens, and over rows by how many these are in each."""

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        del hparams
        found, outputs = masked(config, model, {**batch, "loss_mask": batch["token_mask"]}, keys_B)
        weight_B = batch["weight"].astype(jnp.float32)
        log_p_Bx2 = jax.nn.log_softmax(outputs["follows"].astype(jnp.float32))
        true_Bx2 = jax.nn.one_hot(batch["follows"], 2)
        nats_B = -jnp.sum(log_p_Bx2 * true_Bx2, axis=1) * weight_B
        right_B = (jnp.argmax(log_p_Bx2, axis=1) == batch["follows"]) * weight_B
        tokens = found.sums["loss"]
        assert isinstance(tokens, Sum)
        sums = {
            **found.sums,
            "follows_loss": Sum(nats_B, weight_B),
            "follows_accuracy": Sum(right_B, weight_B),
        }
        return Rows(found.minimised, {"follows": nats_B * tokens.count}, sums)

    return Loss(None, {"follows": config.follows} if config.follows else {}, rows_by=rows_by)
