"""The acoustic model: samples to the logits of every place.

Takes a resolved config and a batch: audio float32 [B, S] and samples int32 [B], of which there is
audio. What lies behind an utterance's end changes nothing within it.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.speech import SpeechModelConfig
from scaling.models import mel
from scaling.models.convolution import RELU_GAIN, Conv
from scaling.models.dropout import OUTSIDE, Keys, keys_of
from scaling.models.layers import Array, Projection, RMSNorm, constrain, rope_table
from scaling.models.reading_blocks import EncoderBlock
from scaling.models.stack import run_stack

_STRIPES = 2  # of time and of frequency each, that SpecAugment hides


class Network(nn.Module):
    """Bands, convolutions, blocks, a norm, one matrix."""

    config: SpeechModelConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Returns:
          frame_logits: float32 [B, L, V], the last token of which is CTC's blank; frames: int32
          [B], the places of each utterance.
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        with jax.named_scope("bands"):
            bands_BxLxM, count_B = _bands(c, batch)
            bands_BxLxM = _hidden(bands_BxLxM, count_B, keys_of(batch), c.spec_augment)
        x_BxLxMxC = bands_BxLxM[..., None].astype(dtype)
        for i in range(int(math.log2(c.subsampling))):
            axes = ("kernel_inputs", "embed")
            conv = Conv(c.filters, (3, 3), 2, axes=axes, dtype=dtype, bias=True, name=f"conv_{i}")
            x_BxLxMxC = nn.relu(conv(x_BxLxMxC))
            count_B = -(-count_B // 2)
            x_BxLxMxC *= _there(x_BxLxMxC, count_B)[..., None, None].astype(dtype)
        rows, length = x_BxLxMxC.shape[:2]
        x_BxLxP = x_BxLxMxC.reshape(rows, length, -1)
        shape, axes = (x_BxLxP.shape[-1], c.width), ("inputs", "embed")
        into = Projection("BLP,PD->BLD", shape, axes, dtype, RELU_GAIN, bias=True, name="into")
        places_BxL = jnp.broadcast_to(jnp.arange(length)[None], (rows, length))
        seen_BxL = _there(x_BxLxP, count_B)
        x_BxLxD = run_stack(
            self,
            "blocks",
            c.depth,
            EncoderBlock,
            (c, 2 * c.depth),
            constrain(into(x_BxLxP)),
            jnp.broadcast_to(seen_BxL[:, None], (rows, length, length)),
            *rope_table(places_BxL, resolved(c.head_dim), c.rope_theta),
            scan_layers=c.scan_layers,
            remat=c.remat,
        )
        x_BxLxD = RMSNorm(c.norm_eps, "float32", name="final_norm")(x_BxLxD)
        shape, axes = (c.width, resolved(c.vocab)), ("embed", "outputs")
        head = Projection("BLD,DV->BLV", shape, axes, "float32", bias=True, name="head")
        return {"frame_logits": head(x_BxLxD), "frames": count_B}


def _there(x_BxLx: Array, count_B: Array) -> Array:
    """bool [B, L]: the first places of each row."""
    return jnp.arange(x_BxLx.shape[1])[None] < count_B[:, None]


def _bands(config: SpeechModelConfig, batch: Mapping[str, Array]) -> tuple[Array, Array]:
    """Log-mel bands float32 [B, L, M] of mean 0 and variance 1 over all of an utterance, 0 behind
    its end, and its frames int32 [B].
    """
    rate = resolved(config.sample_rate)
    x_BxLxM = mel.log_mel(batch["audio"], rate, config.bands)
    count_B = mel.frames_of(batch["samples"], rate)
    there_BxLx1 = _there(x_BxLxM, count_B)[..., None]
    numbers_B = jnp.maximum(count_B, 1) * config.bands

    def mean(x: Array) -> Array:
        return (jnp.where(there_BxLx1, x, 0).sum(axis=(1, 2)) / numbers_B)[:, None, None]

    x_BxLxM = x_BxLxM - mean(x_BxLxM)
    x_BxLxM *= jax.lax.rsqrt(mean(x_BxLxM * x_BxLxM) + 1e-5)
    return jnp.where(there_BxLx1, x_BxLxM, 0), count_B


def _hidden(x_BxLxM: Array, count_B: Array, keys: Keys | None, share: float) -> Array:
    """In training, two stripes of frequencies and two of time at 0, each of up to half of `share`
    of the utterance (Park et al. 2019, SpecAugment, arXiv 1904.08779, section 2).
    """
    if keys is None or not share:
        return x_BxLxM
    drawn_BxNx2 = jax.vmap(lambda key: jax.random.uniform(key, (2 * _STRIPES, 2)))(keys.of(OUTSIDE))
    bands_B = jnp.full_like(count_B, x_BxLxM.shape[2])
    for i in range(2 * _STRIPES):
        axis, whole_B = (1, count_B) if i < _STRIPES else (2, bands_B)
        wide_B = drawn_BxNx2[:, i, 0] * share / _STRIPES * whole_B
        first_B = drawn_BxNx2[:, i, 1] * (whole_B - wide_B)
        place_1xN = jnp.arange(x_BxLxM.shape[axis])[None]
        hidden_BxN = (place_1xN >= first_B[:, None]) & (place_1xN < (first_B + wide_B)[:, None])
        x_BxLxM = jnp.where(jnp.expand_dims(hidden_BxN, 3 - axis), 0, x_BxLxM)
    return x_BxLxM
