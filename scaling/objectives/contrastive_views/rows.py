"""The contrastive loss of two views of each image.

Takes a model that gives `out` [B, O] of images, and a batch with image float32 [B, Y, X, C] and
weight float32 [B] (0: a row that only fills up the batch); gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.models.changes import coloured, turned
from scaling.objectives import several
from scaling.objectives.contrastive_views import ContrastiveViewsConfig
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

_EPS = 1e-8  # added to lengths that are divided by


def rows(config: ContrastiveViewsConfig) -> Loss:
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1): of each view, the cross-entropy, in
    nats, of its partner among all other views of the batch, by cosines over the temperature; of a
    row the mean of its two views.
    """

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        image, weight_B = several.counted(batch)

        def two(image_YxXxC: Array, key: Array) -> Array:
            return jnp.stack([view(config, image_YxXxC, k) for k in jax.random.split(key, 2)])

        z_BxVxO = several.out_of(model, batch, jax.vmap(two)(image, keys_B))
        loss_B, hits_B = contrast(z_BxVxO, weight_B, hparams["temperature"])
        sums: dict[str, Sum | Array] = {
            "loss": Sum(loss_B * weight_B, weight_B),
            "rank_one": Sum(hits_B * weight_B, weight_B),
        }
        return Rows(loss_B * weight_B, {}, sums)

    return Loss(None, {}, rows_by=rows_by, fixed={"temperature": config.temperature})


def contrast(z_BxVxO: Array, weight_B: Array, temperature: Array) -> tuple[Array, Array]:
    """(loss, share of the two views whose nearest other is their partner) of each row, [B] each;
    rows without weight are nobody's others.
    """
    rows = len(z_BxVxO)
    z_BxVxO = z_BxVxO / (jnp.linalg.norm(z_BxVxO, axis=-1, keepdims=True) + _EPS)
    cosine_BxVxCxW = jnp.einsum("bvo,cwo->bvcw", z_BxVxO, z_BxVxO)
    row = jnp.arange(rows)
    same_BxC = row[:, None] == row[None]
    own_VxW = jnp.eye(2, dtype=bool)
    itself = same_BxC[:, None, :, None] & own_VxW[None, :, None]
    other = ~itself & (weight_B > 0)[None, None, :, None]
    partner = same_BxC[:, None, :, None] & ~own_VxW[None, :, None]
    # A row without weight has its partner all the same, so that no logit is of nothing.
    logits = jnp.where(other | partner, cosine_BxVxCxW / temperature, -jnp.inf)
    logits_BxVxN = logits.reshape(rows, 2, -1)
    own_BxV = jnp.where(partner, cosine_BxVxCxW / temperature, 0).sum(axis=(2, 3))
    loss_BxV = jax.nn.logsumexp(logits_BxVxN, axis=-1) - own_BxV
    hits_BxV = (logits_BxVxN.max(axis=-1) <= own_BxV).astype(jnp.float32)
    return loss_BxV.mean(axis=1), hits_BxV.mean(axis=1)


def view(config: ContrastiveViewsConfig, image_YxXxC: Array, key: Array) -> Array:
    """One view: turned, scaled and moved in one, coloured, with noise, mirrored."""
    warp, light, speckle, coin = jax.random.split(key, 4)
    x = turned(config.rotation, config.scale, image_YxXxC, warp, config.shift)
    x = coloured(config.color, x, light)
    x += config.noise * jax.random.normal(speckle, x.shape)
    return jnp.where(jax.random.bernoulli(coin), x[:, ::-1], x) if config.flip else x
