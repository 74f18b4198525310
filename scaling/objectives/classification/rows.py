"""Cross-entropy of one label a row, with accuracy, Brier score and calibration.

Takes a model's output `out` (logits [B, C]) and a batch with label int32 [B] and weight float32 [B]
(0: a row that only fills up the batch); gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.metrics import statistics
from scaling.objectives.classification import ClassificationConfig
from scaling.objectives.objective import Array, Batch, Loss, Rows, Sum


def rows(config: ClassificationConfig) -> Loss:
    """Cross-entropy in nats, towards (1 - label_smoothing) label + label_smoothing / C.

    That is (Szegedy et al. 2016, arXiv 1512.00567, section 7) the cross-entropy of the label plus
    label_smoothing times (mean of -log p over the classes, less that cross-entropy): a penalty, so
    that its weight is traced, and the reported loss is the plain one whatever is minimised. A label
    that is no class gives NaN. Of rows that training has mixed with others (`partner_label`), it is
    that of both labels by their shares.
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        weight_B = batch["weight"].astype(jnp.float32)
        # What stands in a row without weight has no part in anything, be it NaN.
        counted_B = weight_B > 0
        logits_BxC = jnp.where(counted_B[:, None], outputs["out"].astype(jnp.float32), 0)
        label_B = jnp.where(counted_B, batch["label"], 0)

        log_p_BxC = jax.nn.log_softmax(logits_BxC)
        nats_B = -_at(log_p_BxC, label_B)
        if "partner_label" in batch:
            share_B, other_B = batch["share"], jnp.where(counted_B, batch["partner_label"], 0)
            nats_B = share_B * nats_B - (1 - share_B) * _at(log_p_BxC, other_B)
        even_B = -log_p_BxC.mean(axis=-1)

        p_BxC = jnp.exp(log_p_BxC)
        correct_B = (jnp.argmax(logits_BxC, axis=-1) == label_B).astype(jnp.float32)
        sums: dict[str, Sum | Array] = {
            "loss": Sum(nats_B * weight_B, weight_B),
            "accuracy": Sum(correct_B * weight_B, weight_B),
            "brier": Sum(statistics.brier(p_BxC, label_B) * weight_B, weight_B),
            "calibration_error": statistics.calibration(p_BxC.max(axis=-1), correct_B, weight_B),
        }
        penalties = {"label_smoothing": (even_B - nats_B) * weight_B}
        return Rows(nats_B * weight_B, penalties, sums)

    weight = config.label_smoothing
    return Loss(rows_of, {"label_smoothing": weight} if weight else {})


def _at(x_BxC: Array, label_B: Array) -> Array:
    """[B]: the entry of each label. A sum with one term, which every sharding of the classes can
    do; NaN where the label is none of them.
    """
    classes = x_BxC.shape[-1]
    number_BxC = jax.lax.broadcasted_iota(label_B.dtype, x_BxC.shape, 1)
    picked_B = jnp.where(number_BxC == label_B[:, None], x_BxC, 0).sum(axis=-1)
    return jnp.where((label_B >= 0) & (label_B < classes), picked_B, jnp.nan)
