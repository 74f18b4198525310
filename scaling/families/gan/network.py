"""The generator and the discriminator: keys to images, images to scores.

Takes a resolved GANConfig. Both are made of the same residual blocks, at every size of the image:
from the smallest up in the generator, from the whole image down in the discriminator.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.gan import GANConfig, smallest
from scaling.models.convolution import RELU_GAIN, Conv, GroupNorm, constrain
from scaling.models.layers import Array, Linear
from scaling.models.stack import run_stack

_SLOPE = 0.2  # of the discriminator's activations below 0 (Radford et al. 2016, section 3)


class Block(nn.Module):
    """The stream plus two convolutions, each behind an activation: ReLU of a group norm in the
    generator; leaky, of the stream as it is, in the discriminator.
    """

    config: GANConfig
    generates: bool

    @nn.compact
    def __call__(self, x_BxYxXxC: Array) -> Array:
        c, h = self.config, x_BxYxXxC
        for i, axes in enumerate((("embed", "mlp"), ("mlp", "embed"))):
            if self.generates:
                h = nn.relu(GroupNorm(resolved(c.group), c.dtype, name=f"norm{i}")(h))
            else:
                h = nn.leaky_relu(h, _SLOPE)
            h = Conv(
                c.width,
                axes=axes,
                dtype=c.dtype,
                init_scale=RELU_GAIN,
                spectral=None if self.generates else c.spectral,
                name=f"conv{i}",
            )(h)
        return constrain(x_BxYxXxC + h)


def _stage(module: nn.Module, config: GANConfig, stage: int, generates: bool, x: Array) -> Array:
    """The blocks of one size of the image; 0 is the whole image."""
    return run_stack(
        module,
        f"stage{stage}",
        config.depth,
        Block,
        (config, generates),
        x,
        scan_layers=config.scan_layers,
        remat=config.remat,
    )


class Generator(nn.Module):
    """Random numbers to an image: one matrix, blocks at each size, each place doubled between. A
    class, where there are, is one more number for each class, 1 or 0 (Mirza and Osindero 2014).
    """

    config: GANConfig

    @nn.compact
    def __call__(self, latent_BxZ: Array, label_B: Array | None = None) -> Array:
        """[B, Z], int32 [B] -> image, float32 [B, Y, X, C]."""
        c, (height, width) = self.config, smallest(self.config)
        outputs = height * width * c.width
        if label_B is not None:
            of_class_BxN = jax.nn.one_hot(label_B, resolved(c.classes))
            latent_BxZ = jnp.concatenate([latent_BxZ, of_class_BxN], axis=1)
        x = Linear(outputs, ("inputs", "embed"), c.dtype, name="first")(latent_BxZ)
        x = constrain(x.reshape(-1, height, width, c.width))
        for stage in reversed(range(resolved(c.halvings) + 1)):
            x = _stage(self, c, stage, True, x)
            if stage:
                x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = nn.relu(GroupNorm(resolved(c.group), c.dtype, name="final_norm")(x))
        axes = ("embed", "kernel_inputs")
        last = Conv(resolved(c.channels), axes=axes, dtype=c.dtype, bias=True, name="last")
        return last(x).astype(jnp.float32)


class Discriminator(nn.Module):
    """An image to a score, large for what looks real: blocks at each size, means of four places
    between, the mean over all places, one matrix. Where there are classes, a second matrix has a
    score of its own for each, and that of the image's class is added (Miyato and Koyama 2018).
    """

    config: GANConfig

    @nn.compact
    def __call__(self, image_BxYxXxC: Array, label_B: Array | None = None) -> tuple[Array, Array]:
        """float32 score [B], features [B, F]."""
        c = self.config
        first = {"axes": ("kernel_inputs", "embed"), "dtype": c.dtype, "spectral": c.spectral}
        x = constrain(Conv(c.width, name="first", **first)(image_BxYxXxC))  # type: ignore[arg-type]
        for stage in range(resolved(c.halvings) + 1):
            if stage:
                rows, height, width, channels = x.shape
                x = x.reshape(rows, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
            x = _stage(self, c, stage, False, x)
        x = nn.leaky_relu(x, _SLOPE).astype(jnp.float32)
        features_BxF = x.mean(axis=(1, 2))
        with jax.named_scope("head"):
            head = {"axes": ("embed", "outputs"), "spectral": c.spectral}
            features_Bx1x1xF = features_BxF[:, None, None]
            score = Conv(1, (1, 1), bias=True, name="head", **head)  # type: ignore[arg-type]
            score_B = score(features_Bx1x1xF)[:, 0, 0, 0]
            if label_B is not None:
                classes = resolved(c.classes)
                by_class = Conv(classes, (1, 1), name="class_head", **head)  # type: ignore[arg-type]
                own_BxN = by_class(features_Bx1x1xF)[:, 0, 0] * jax.nn.one_hot(label_B, classes)
                score_B += own_BxN.sum(axis=1)
            return score_B, features_BxF


class Network(nn.Module):
    """Both, side by side."""

    config: GANConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Array]:
        """
        Args:
          batch: what is asked for. image, float32 [B, Y, X, C], is scored; left out, nothing is.
            key [B], of each row's random numbers; left out, fixed ones; None, nothing is made.
            latent, float32 [B, Z], in the place of the key: the numbers themselves. label, int32
            [B], the class of what is scored and made; read where the model is conditional.

        Returns:
          sample: float32 [B, Y, X, C], as standardised as the images are that it was trained on;
          score: float32 [B], and features: what it is a linear function of, float32 [B, F].
        """
        c = self.config
        generator = Generator(c, name="generator")
        discriminator = Discriminator(c, name="discriminator")
        found = dict[str, Array]()
        label_B = batch["label"] if c.conditional else None
        latent_BxZ = batch["latent"] if "latent" in batch else _drawn(batch, c.latent)
        if latent_BxZ is not None:
            found["sample"] = generator(latent_BxZ, label_B)
        if "image" in batch:
            found["score"], found["features"] = discriminator(batch["image"], label_B)
        return found


def _drawn(batch: Mapping[str, Any], latent: int) -> Array | None:
    """float32 [B, Z], of the batch's keys; None where nothing is to be made."""
    keys_B = batch.get("key", batch)
    if keys_B is batch:
        keys_B = jax.random.split(jax.random.key(0), batch["image"].shape[0])
    if keys_B is None:
        return None
    return jax.vmap(lambda key: jax.random.normal(key, (latent,)))(keys_B)
