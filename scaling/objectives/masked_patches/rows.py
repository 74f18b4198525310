"""Squared error of the pixels of patches that were hidden.

Takes a model that hides patches by a key (`scaling/objectives/masked_patches`), and a batch with
image float32 [B, Y, X, C] and weight float32 [B] (0: a row that only fills up the batch); gives
`Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.models import dropout
from scaling.objectives import several
from scaling.objectives.masked_patches import MaskedPatchesConfig
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

_EPS = 1e-6  # added to the variance of a patch


def rows(config: MaskedPatchesConfig) -> Loss:
    """The mean over hidden patches and their pixels (He et al. 2022, arXiv 2111.06377, section 3,
    with its normalised targets on demand).
    """

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        image, weight_B = several.counted(batch)
        drops = {name: batch[name] for name in (dropout.FIELD,) if name in batch}
        found = model({"image": image, "key": keys_B, **drops})
        cut_BxLxP, masked_BxL = found["cut"], found["masked"]
        if config.normalise:
            cut_BxLxP -= cut_BxLxP.mean(axis=-1, keepdims=True)
            variance = jnp.square(cut_BxLxP).mean(axis=-1, keepdims=True)
            cut_BxLxP *= jax.lax.rsqrt(variance + _EPS)
        square_BxL = jnp.square(found["patches"] - cut_BxLxP).mean(axis=-1)
        loss_B = (square_BxL * masked_BxL).sum(axis=1) / masked_BxL.sum(axis=1)
        return Rows(loss_B * weight_B, {}, {"loss": Sum(loss_B * weight_B, weight_B)})

    return Loss(None, {}, rows_by=rows_by)
