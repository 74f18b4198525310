"""The residual network: images to logits.

Takes a resolved ResNetConfig and a batch of images. Group norms stand where the papers have batch
norms: nothing of an example depends on the others, and the counts of parameters are the same. What
others have trained keeps its batch norms, with their statistics as they came.
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.resnet import ResNetConfig, blocks, convolutions, sides
from scaling.models.convolution import (
    RELU_GAIN,
    Conv,
    FrozenNorm,
    GroupNorm,
    around,
    constrain,
)
from scaling.models.dropout import OUTSIDE, Keys, dropped, keys_of, skipped
from scaling.models.layers import Array, Linear
from scaling.models.stack import run_stack


def norm(config: ResNetConfig, name: str, zero: bool = False) -> nn.Module:
    """Of the config's kind."""
    if config.norm == "frozen":
        return FrozenNorm(config.dtype, zero=zero, name=name)
    return GroupNorm(resolved(config.group), config.dtype, zero=zero, name=name)


def padding(config: ResNetConfig) -> Literal["SAME", "CENTRED"]:
    """Of its convolutions."""
    return "SAME" if config.padding == "same" else "CENTRED"


class Block(nn.Module):
    """A shortcut plus a branch of convolutions; both halve the image where the stage begins.

    pre: norm and ReLU stand before each convolution, and nothing behind the sum (He et al. 2016,
    arXiv 1603.05027, figure 4e); the shortcut's projection reads what the branch reads. post: a
    norm behind each convolution, and a ReLU behind the sum (He et al. 2015, arXiv 1512.03385); in
    a bottleneck the 3x3 convolution has the stride. The sum is the identity at first if
    `zero_init`: of pre the last kernel is zero, of post the last norm's scale (Goyal et al. 2017,
    section 5.1).
    """

    config: ResNetConfig
    stage: int
    first: bool

    @nn.compact
    def __call__(self, x_BxYxXxC: Array, dropout: Keys | None = None) -> Array:
        c, branch = self.config, convolutions(self.config, self.stage, self.first)
        made, stride = branch[-1][1], max(stride for _, _, stride in branch)
        pre, last = c.order == "pre", len(branch) - 1

        def normed(x: Array, name: str, zero: bool = False) -> Array:
            return norm(c, name, zero)(x)

        h = nn.relu(normed(x_BxYxXxC, "norm0")) if pre else x_BxYxXxC
        shortcut = x_BxYxXxC
        if (made, stride) != (x_BxYxXxC.shape[-1], 1):
            into = Conv(made, (1, 1), stride, padding=padding(c), dtype=c.dtype, name="shortcut")
            shortcut = into(h)
            shortcut = shortcut if pre else normed(shortcut, "shortcut_norm")
        for i, (kernel, channels, step) in enumerate(branch):
            if pre and i:
                h = nn.relu(normed(h, f"norm{i}"))
            # Channels between two convolutions lie over mesh.tensor, those of the stream whole.
            axes = ("embed", "mlp") if i % 2 == 0 else ("mlp", "embed")
            gain = 0.0 if pre and c.zero_init and i == last else RELU_GAIN
            h = Conv(
                channels,
                sides(c, kernel),
                step,
                axes=axes,
                dtype=c.dtype,
                init_scale=gain,
                padding=padding(c),
                name=f"conv{i}",
            )(h)
            if not pre:
                h = normed(h, f"norm{i}", zero=c.zero_init and i == last)
                h = nn.relu(h) if i < last else h
        y_BxYxXxC = shortcut + skipped(h, dropout, c.drop_path, sum(blocks(c)), 0)
        return constrain(y_BxYxXxC if pre else nn.relu(y_BxYxXxC))


class Network(nn.Module):
    """A stem, stages of blocks, the mean over all places, one matrix."""

    config: ResNetConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C].

        Returns:
          out: float32 [B, O]; features: what the last matrix reads, float32 [B, F].
        """
        c = self.config
        pre = c.order == "pre"

        def normed(x: Array, name: str) -> Array:
            return nn.relu(norm(c, name)(x))

        kernel, stride = (3, 1) if c.stem == "small" else (7, 2)
        # An image has too few channels to be cut over devices.
        stem = {"axes": ("kernel_inputs", "embed"), "dtype": c.dtype, "name": "stem"}
        stem["padding"] = padding(c)
        x = Conv(c.width, sides(c, kernel), stride, **stem)(batch["image"])  # type: ignore[arg-type]
        x = x if pre else normed(x, "stem_norm")
        if c.stem == "large":
            fills: Any = "SAME" if c.padding == "same" else around(sides(c, 3))
            x = nn.max_pool(x, sides(c, 3), (2, 2), padding=fills)
        x = constrain(x)
        remat = c.remat != "none" and not self.is_initializing()
        dropout, number = keys_of(batch), 0  # of a block, over all stages
        for stage, count in enumerate(blocks(c)):
            # The first has another shape than the rest, which are equal.
            first = nn.remat(Block) if remat else Block
            given = () if dropout is None else (dropout.of_layer(number),)
            x = first(c, stage, True, name=f"stage{stage}_first")(x, *given)
            x = run_stack(
                self,
                f"stage{stage}",
                count - 1,
                Block,
                (c, stage, False),
                x,
                scan_layers=c.scan_layers,
                remat=c.remat,
                dropout=dropout,
                first=number + 1,
            )
            number += count
        x = normed(x, "final_norm") if pre else x
        features_BxF = x.astype(jnp.float32).mean(axis=(1, 2))
        with jax.named_scope("head"):
            head = Linear(resolved(c.classes), ("embed", "outputs"), "float32", name="head")
            read_BxF = dropped(features_BxF, dropout, c.dropout, OUTSIDE)
            return {"out": head(read_BxF), "features": features_BxF}
