"""CTC by optax: logits of places and transcripts to sums.

Gives `Rows`, float32; a row without weight, or without a transcript, counts for nothing.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from scaling.objectives.ctc import CTCConfig
from scaling.objectives.objective import Batch, Loss, Rows, Sum


def rows(config: CTCConfig) -> Loss:
    """Nats of a transcript, counted by its tokens. A transcript that has more tokens than there are
    places has no path: some 1e5 nats.
    """
    del config

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        logits_BxLxV = outputs["frame_logits"].astype(jnp.float32)
        weight_B = batch["weight"].astype(jnp.float32)
        counted_B = weight_B > 0
        # What stands in a row without weight has no part in anything, be it NaN.
        logits_BxLxV = jnp.where(counted_B[:, None, None], logits_BxLxV, 0)
        length, vocab = logits_BxLxV.shape[1:]
        behind_BxL = jnp.arange(length)[None] >= outputs["frames"][:, None]
        length_B, room = batch["transcript_length"], batch["transcript"].shape[1]
        behind_BxT = jnp.arange(room)[None] >= length_B[:, None]
        nats_B = optax.ctc_loss(
            logits_BxLxV,
            behind_BxL.astype(jnp.float32),
            batch["transcript"],
            behind_BxT.astype(jnp.float32),
            blank_id=vocab - 1,
        )
        nats_B = jnp.where(counted_B, nats_B, 0) * weight_B
        return Rows(nats_B, {}, {"loss": Sum(nats_B, length_B * weight_B)})

    return Loss(rows_of)
