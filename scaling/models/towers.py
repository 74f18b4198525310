"""Two readers, of an image and of a text, each to a stream of places.

The blocks of both are those of `reading_blocks.py`. Called by the families that read both. Shapes
as in `layers.py`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.models.convolution import RELU_GAIN, Conv
from scaling.models.embedding import lookup
from scaling.models.layers import Array, RMSNorm, parameter, rope_table, truncated_normal
from scaling.models.patches import Patches
from scaling.models.reading_blocks import EncoderBlock
from scaling.models.stack import run_stack

_INIT = 0.02  # initial std of positions


class ImageTower(nn.Module):
    """Two convolutions (none where `stem` is 0), patches with learned positions, blocks, a norm.

    The convolutions find strokes sooner than patches alone (Xiao et al. 2021, arXiv 2106.14881).
    """

    config: Any  # of a family: the fields of `reading_blocks.ReadingConfig`, `stem`, `patch`, ...
    sides: tuple[int, int]  # height and width of a patch

    @nn.compact
    def __call__(self, image_BxYxXxC: Array) -> Array:
        """Places [B, L, D]."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        x_BxYxXxC = image_BxYxXxC.astype(dtype)
        for i in range(2 if c.stem else 0):
            axes = (("kernel_inputs", "embed"), ("embed", "mlp"))[i]
            conv = Conv(
                c.stem, axes=axes, dtype=dtype, init_scale=RELU_GAIN, bias=True, name=f"stem_{i}"
            )
            x_BxYxXxC = nn.relu(conv(x_BxYxXxC))
        x_BxLxD = Patches(self.sides, c.width, dtype, name="patches")(x_BxYxXxC)
        shape, init = x_BxLxD.shape[1:], truncated_normal(_INIT)
        x_BxLxD += parameter(self, "positions", init, shape, ("positions", "embed"))[None].astype(
            dtype
        )
        seen_BxLxL = jnp.ones((x_BxLxD.shape[0], shape[0], shape[0]), bool)
        return _behind(self, x_BxLxD, seen_BxLxL, None)


class TextTower(nn.Module):
    """An embedding, blocks with rotary positions, a norm."""

    config: Any  # likewise, and `vocab`, `rope_theta`

    @nn.compact
    def __call__(self, text_BxT: Array, is_text_BxT: Array) -> Array:
        """Places [B, T, D]; `is_text`: bool, where there is a token."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        init, shape = truncated_normal(c.width**-0.5), (resolved(c.vocab), c.width)
        table_VxD = parameter(self, "embedding", init, shape, ("vocab", "embed"))
        with jax.named_scope("embedding"):
            x_BxTxD = lookup(table_VxD, text_BxT, dtype)
        places_BxT = jnp.broadcast_to(jnp.arange(text_BxT.shape[1])[None], text_BxT.shape)
        seen_BxTxT = jnp.broadcast_to(
            is_text_BxT[:, None], (*is_text_BxT.shape, is_text_BxT.shape[1])
        )
        table = rope_table(places_BxT, resolved(c.head_dim), c.rope_theta)
        return _behind(self, x_BxTxD, seen_BxTxT, table)


def _behind(
    tower: nn.Module, x_BxLxD: Array, seen_BxLxL: Array, table: tuple[Array, Array] | None
) -> Array:
    """The stream behind a tower's blocks and its norm."""
    c: Any = tower.config
    x_BxLxD = run_stack(
        tower,
        "blocks",
        c.depth,
        EncoderBlock,
        (c, 2 * c.depth),
        x_BxLxD,
        seen_BxLxL,
        *(table or (None, None)),
        scan_layers=c.scan_layers,
        remat=c.remat,
    )
    return RMSNorm(c.norm_eps, jnp.dtype(c.dtype), name="final_norm", parent=tower)(x_BxLxD)


def mean_over(x_BxLxD: Array, there_BxL: Array | None = None) -> Array:
    """Mean over the places that are there (None: all), float32 [B, D]."""
    x_BxLxD = x_BxLxD.astype(jnp.float32)
    if there_BxL is None:
        return x_BxLxD.mean(axis=1)
    share_BxL = there_BxL / jnp.maximum(there_BxL.sum(axis=1, keepdims=True), 1)
    return (x_BxLxD * share_BxL[..., None]).sum(axis=1)


def is_text(batch: Mapping[str, Array]) -> Array:
    """bool [B, T]: where a batch's text has a token."""
    return batch["text_segments"] > 0
