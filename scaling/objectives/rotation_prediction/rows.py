"""Cross-entropy of the quarter turn of each of the four that an image is seen in (Gidaris et al.
2018, arXiv 1803.07728, equation 3).

Takes a model that gives `out`, logits [B, C] of images, and a batch with image float32 [B, Y, X, C]
and weight float32 [B] (0: a row that only fills up the batch); gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.objectives import several
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum
from scaling.objectives.rotation_prediction import RotationPredictionConfig


def rows(config: RotationPredictionConfig) -> Loss:
    """Of a row the mean over its four turns, in nats. Raises ConfigError for images that are not
    square, and for fewer than four classes.
    """

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        image, weight_B = several.counted(batch)
        height, width = image.shape[1:3]
        if height != width:
            raise ConfigError(
                f"objective.name={config.name} turns images by quarters, and those of {height} x "
                f"{width} pixels are not square; give data.side"
            )
        turns = jnp.stack([jnp.rot90(image, k, axes=(1, 2)) for k in range(4)], axis=1)
        logits_BxVxC = several.out_of(model, batch, turns)
        if logits_BxVxC.shape[-1] < 4:
            raise ConfigError(
                f"objective.name={config.name} tells four turns apart, and the model has "
                f"{logits_BxVxC.shape[-1]} outputs; give model.classes=4"
            )
        log_p = jax.nn.log_softmax(logits_BxVxC)
        nats_B = -jnp.stack([log_p[:, k, k] for k in range(4)], axis=1).mean(axis=1)
        hits_BxV = logits_BxVxC.argmax(axis=-1) == jnp.arange(4)[None]
        correct_B = hits_BxV.astype(jnp.float32).mean(axis=1)
        sums: dict[str, Sum | Array] = {
            "loss": Sum(nats_B * weight_B, weight_B),
            "accuracy": Sum(correct_B * weight_B, weight_B),
        }
        return Rows(nats_B * weight_B, {}, sums)

    return Loss(None, {}, rows_by=rows_by)
