"""The blocks of convolutional networks, by name: each maps a stream [B, Y, X, C] to one of the
channels that its row of the table says.

Norms stand where the papers have batch norms, with as many parameters: nothing of an example
depends on the others. Called by `network.py`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from scaling.families import from_data
from scaling.families.convnet import ConvNetConfig, table
from scaling.families.convnet.table import Row
from scaling.models.convolution import RELU_GAIN, Conv, GroupNorm, constrain
from scaling.models.dropout import Keys, skipped
from scaling.models.layers import Array, LayerNorm, Linear, parameter

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "silu": nn.silu,
    "gelu": nn.gelu,
}
# Logical axes of the channels read and made: of the stream, inside a block.
_STEM, _INTO, _BACK = ("kernel_inputs", "embed"), ("embed", "mlp"), ("mlp", "embed")
_LAYER_SCALE = 1e-6  # of a convnext's branch at first (Liu et al. 2022, appendix A.1)


def sides(config: ConvNetConfig, kernel: int) -> tuple[int, int]:
    """Height and width of a kernel: squares, but for images one row high, which are signals."""
    return (1 if config.height == 1 else kernel), kernel


def pooled(config: ConvNetConfig, x: Array, kernel: int, stride: int) -> Array:
    """The largest of each place's neighbourhood."""
    return nn.max_pool(x, sides(config, kernel), (stride, stride), padding="SAME")


class Block(nn.Module):
    """What the blocks share: one block of a row."""

    config: ConvNetConfig
    row: Row
    number: int  # in its row
    blocks: int  # of the whole network, for stochastic depth
    stem: bool = False  # it reads the image, which has too few channels to be cut over devices

    @property
    def made(self) -> int:
        """Channels."""
        return self.row.channels[0]

    @property
    def stride(self) -> int:
        """Of this block: the row's, of its first."""
        return 1 if self.number else self.row.stride

    def normed(self, x: Array, name: str, active: bool = True) -> Array:
        """The norm of the config, and behind it the activation."""
        x = norm(self.config, x, name)
        return ACTIVATIONS[self.config.activation](x) if active else x

    def convolved(
        self,
        x: Array,
        name: str,
        channels: int,
        kernel: int = 1,
        axes: tuple[str, str] = _INTO,
        stride: int = 1,
        depthwise: bool = False,
        active: bool | None = True,
        bias: bool = False,
    ) -> Array:
        """A convolution and its norm, with an activation behind it or not; `active` None: no norm.

        A norm, or an activation that halves the variance, follows all of them but the last of a
        sum, so that they begin with He's std.
        """
        y = Conv(
            channels,
            sides(self.config, kernel),
            stride,
            groups=channels if depthwise else 1,
            axes=_INTO if depthwise else axes,  # which lies over mesh.tensor, as `Conv` asks
            dtype=self.config.dtype,
            init_scale=RELU_GAIN if active else 1.0,
            bias=bias or self.config.norm == "none",
            name=name,
        )(x)
        return y if active is None else self.normed(y, f"{name}_norm", active)


def norm(config: ConvNetConfig, x: Array, name: str) -> Array:
    """Of the config's kind; none: x itself."""
    if config.norm == "group":
        group = from_data.nearest(from_data.divisors(x.shape[-1]), config.group)
        return GroupNorm(group, config.dtype, name=name)(x)
    return LayerNorm(1e-6, config.dtype, name=name)(x) if config.norm == "layer" else x


class Plain(Block):
    """A convolution, a norm, an activation (Simonyan and Zisserman 2015, arXiv 1409.1556)."""

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        axes = _STEM if self.stem else _INTO
        k, stride = self.row.kernel, self.stride
        return constrain(self.convolved(x, "conv", self.made, k, axes, stride))


class Patches(Block):
    """A linear map of patches that do not overlap, and a norm."""

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        axes, k = _STEM if self.stem else _INTO, self.row.kernel
        return constrain(
            self.convolved(x, "conv", self.made, k, axes, stride=k, active=False, bias=True)
        )


class Dense(Block):
    """The stream and, beside it, the channels that 1x1 and 3x3 make of all of it (Huang et al.
    2017, arXiv 1608.06993, section 3, DenseNet-BC). The first block of a row with a stride stands
    behind a transition: 1x1 to half of the channels, and means.
    """

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        if self.stride > 1:
            half = x.shape[-1] // 2
            x = self.convolved(self.normed(x, "transition_norm"), "transition", half, active=None)
            window = sides(self.config, self.stride)
            x = nn.avg_pool(x, window, (self.stride, self.stride), padding="SAME")
        h = self.convolved(self.normed(x, "norm"), "narrow", self.row.expansion * self.made)
        h = self.convolved(h, "grow", self.made, self.row.kernel, _BACK, active=None)
        return constrain(jnp.concatenate([x, h], axis=-1))


class Inception(Block):
    """Four branches side by side: 1x1; 1x1, 3x3; 1x1, k x k; the largest of 3x3, 1x1 (Szegedy et
    al. 2015, arXiv 1409.4842, figure 2b). Six numbers of channels, in that order.
    """

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        one, read3, made3, read_k, made_k, pool = table.branches(self.row.channels)
        found = [self.convolved(x, "one", one)]
        h = self.convolved(x, "read3", read3)
        found.append(self.convolved(h, "made3", made3, 3, _BACK))
        h = self.convolved(x, "read_k", read_k)
        found.append(self.convolved(h, "made_k", made_k, self.row.kernel, _BACK))
        found.append(self.convolved(pooled(self.config, x, 3, 1), "pool", pool))
        return constrain(jnp.concatenate([constrain(h) for h in found], axis=-1))


class Inverted(Block):
    """1x1 to more channels, k x k of each by itself, 1x1 to few; added to the stream where that has
    their shape (Sandler et al. 2018, arXiv 1801.04381, figure 4d). As mbconv, each of the many
    channels times a number that two matrices make of their means (Hu et al. 2018, arXiv 1709.01507,
    figure 1; with the hidden units of Tan and Le 2019, arXiv 1905.11946).
    """

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        row, read = self.row, x.shape[-1]
        inner, h = row.expansion * read, x
        if row.expansion > 1:
            h = self.convolved(h, "expand", inner)
        h = self.convolved(h, "depthwise", inner, row.kernel, stride=self.stride, depthwise=True)
        if row.squeeze:
            h = self._squeezed(h, max(1, read // row.squeeze))
        h = self.convolved(h, "project", self.made, axes=_BACK, active=False)
        if self.stride == 1 and read == self.made:
            h = x + skipped(h, dropout, self.config.drop_path, self.blocks, 0)
        return constrain(h)

    def _squeezed(self, h: Array, hidden: int) -> Array:
        dtype, inner = self.config.dtype, h.shape[-1]
        mean_BxC = h.astype(jnp.float32).mean(axis=(1, 2)).astype(dtype)
        squeeze = Linear(hidden, ("mlp", "squeeze"), dtype, name="squeeze")
        excite = Linear(inner, ("squeeze", "mlp"), dtype, name="excite")
        active = ACTIVATIONS[self.config.activation]
        gate_BxC = nn.sigmoid(excite(active(squeeze(mean_BxC))))
        return h * gate_BxC[:, None, None]


class Shuffle(Block):
    """Half of the channels as they are, beside 1x1, depthwise, 1x1 of the other half, and the two
    dealt out by turns (Ma et al. 2018, arXiv 1807.11164, figure 3c). With a stride, or where the
    channels change, both halves are made of all of them (3d).
    """

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        half, stride, k = self.made // 2, self.stride, self.row.kernel
        if stride == 1 and x.shape[-1] == self.made:
            kept, h = jnp.split(x, 2, axis=-1)
        else:
            kept, h = x, x
            kept = self.convolved(
                kept, "kept_depthwise", x.shape[-1], k, stride=stride, depthwise=True, active=False
            )
            kept = self.convolved(kept, "kept_out", half)
        h = self.convolved(h, "into", half)
        h = self.convolved(h, "depthwise", half, k, stride=stride, depthwise=True, active=False)
        h = self.convolved(h, "out", half, axes=_BACK)
        both = jnp.stack([constrain(kept), constrain(h)], axis=-1)
        return constrain(both.reshape(*both.shape[:3], self.made))


class ConvNeXt(Block):
    """The stream plus k x k of each channel, a norm, and an MLP of each place (Liu et al. 2022,
    arXiv 2201.03545, figure 4), times a small number for each channel. The first block of a row
    with a stride stands behind a norm and patches of that side.
    """

    @nn.compact
    def __call__(self, x: Array, dropout: Keys | None = None) -> Array:
        c, row = self.config, self.row
        if self.stride > 1 or x.shape[-1] != self.made:
            x = norm(c, x, "down_norm")
            x = self.convolved(
                x, "down", self.made, self.stride, stride=self.stride, active=None, bias=True
            )
            x = constrain(x)
        h = self.convolved(
            x, "depthwise", self.made, row.kernel, depthwise=True, active=None, bias=True
        )
        h = norm(c, h, "norm")
        h = self.convolved(h, "expand", row.expansion * self.made, active=None, bias=True)
        h = ACTIVATIONS[c.activation](h)
        h = self.convolved(h, "project", self.made, axes=_BACK, active=None, bias=True)
        scale = parameter(
            self, "scale", nn.initializers.constant(_LAYER_SCALE), (self.made,), ("norm",)
        )
        h *= scale[None, None, None].astype(c.dtype)
        return constrain(x + skipped(h, dropout, c.drop_path, self.blocks, 0))


BLOCKS: dict[str, type[Block]] = {
    "plain": Plain,
    "patches": Patches,
    "dense": Dense,
    "inception": Inception,
    "inverted": Inverted,
    "mbconv": Inverted,
    "shuffle": Shuffle,
    "convnext": ConvNeXt,
}
