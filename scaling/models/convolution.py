"""Layers of convolutional families: a convolution, and norms over groups of channels.

Images are [B, Y, X, C] (batch, height, width, channels), kernels [Y, X, I, O]. Called by the
families that read images.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from scaling.models import spectral
from scaling.models.layers import Array, parameter, truncated_normal

# Keeps the variance through a ReLU, which halves it (He et al. 2015, section 2.2).
RELU_GAIN = math.sqrt(2)

# How the channels of activations lie where a kernel has these.
_ACTIVATIONS = {"mlp": "act_mlp", "embed": "act_embed"}


def constrain(x_BxYxXxC: Array) -> Array:
    """Names the axes of a stream of images for the partitioner; its channels lie whole."""
    return nn.with_logical_constraint(x_BxYxXxC, ("batch", None, None, "act_embed"))


class Conv(nn.Module):
    """A convolution, without a bias unless asked for.

    Weights start from a truncated normal with std `init_scale / sqrt(fan_in)`, where the fan-in is
    what a place of the output reads: the kernel's places times the channels of a group.
    """

    channels: int  # of the output
    kernel: tuple[int, int] = (3, 3)  # height, width
    stride: int = 1
    dilation: int = 1  # steps between the places that the kernel reads
    groups: int = 1  # pieces of the channels that do not meet; as many as channels: depthwise
    # CENTRED: as many places on both sides, whatever the stride; SAME: behind as many or one more
    padding: Literal["SAME", "VALID", "CENTRED"] = "SAME"
    axes: tuple[str, str] = ("embed", "mlp")  # logical axes of the channels read and made
    dtype: Any = "float32"
    init_scale: float = 1.0
    bias: bool = False
    spectral: int | None = None  # steps of the power method in `spectral.normalised`; None: off

    @nn.compact
    def __call__(self, x_BxYxXxC: Array) -> Array:
        """[B, Y, X, I] -> [B, Y', X', O]. Raises ValueError where the groups do not divide both."""
        inputs = x_BxYxXxC.shape[-1]
        if inputs % self.groups or self.channels % self.groups:
            raise ValueError(
                f"{inputs} channels to {self.channels} cannot be cut into {self.groups} groups"
            )
        shape = (*self.kernel, inputs // self.groups, self.channels)
        # A group's channels are too few to be cut over devices.
        read, made = "kernel_inputs" if self.groups > 1 else self.axes[0], self.axes[1]
        init = truncated_normal(self.init_scale / math.sqrt(math.prod(shape[:3])))
        w = parameter(self, "w", init, shape, ("kernel_height", "kernel_width", read, made))
        if self.spectral is not None:
            w = spectral.normalised(w, self.spectral)
        # Gathered over fsdp by name: left to the partitioner, strided convolutions of kernels that
        # lie over fsdp and tensor were wrong on meshes with both and data (jax 0.10, CPU).
        lies = [_ACTIVATIONS.get(axis) for axis in (read, made)]
        w = nn.with_logical_constraint(w.astype(self.dtype), (None, None, *lies))
        if self.groups > 1:
            # Of an input that is whole along an axis of the mesh, the partitioner adds the gradient
            # of such a kernel once for each device of that axis (jax 0.10).
            x_BxYxXxC = nn.with_logical_constraint(x_BxYxXxC, ("batch", None, None, lies[1]))
        y = jax.lax.conv_general_dilated(
            x_BxYxXxC.astype(self.dtype),
            w,
            window_strides=(self.stride, self.stride),
            padding=around(self.kernel) if self.padding == "CENTRED" else self.padding,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        y = nn.with_logical_constraint(y, ("batch", None, None, lies[1]))
        y = checkpoint_name(y, "projection")  # see remat.py
        if self.bias:
            bias = parameter(self, "bias", nn.initializers.zeros, (self.channels,), (made,))
            y += bias[None, None, None].astype(self.dtype)
        return y


def around(kernel: tuple[int, int]) -> list[tuple[int, int]]:
    """What fills up an image on each side: an odd kernel's middle reads its first place."""
    return [(side // 2, side // 2) for side in kernel]


class FrozenNorm(nn.Module):
    """Each channel minus a mean and over a deviation that are given, times `scale` plus `bias`:
    batch norm as it is evaluated (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3.1).

    The statistics are parameters that no update moves (`optim/roles.py`): they come with weights
    that others have trained, and are 0 and 1 without.
    """

    dtype: Any
    eps: float = 1e-5  # added to the variance
    zero: bool = False  # the scale begins at 0, not 1

    @nn.compact
    def __call__(self, x_BxYxXxC: Array) -> Array:
        ones, zeros, own = nn.initializers.ones, nn.initializers.zeros, x_BxYxXxC.shape[-1:]
        scale_C = parameter(self, "scale", zeros if self.zero else ones, own, ("norm",))
        bias_C = parameter(self, "bias", zeros, own, ("norm",))
        mean_C = jax.lax.stop_gradient(parameter(self, "mean", zeros, own, ("norm",)))
        variance_C = jax.lax.stop_gradient(parameter(self, "variance", ones, own, ("norm",)))
        inverse_C = jax.lax.rsqrt(variance_C + self.eps)
        x = x_BxYxXxC.astype(jnp.float32) - mean_C[None, None, None]
        x *= (inverse_C * scale_C)[None, None, None]
        return (x + bias_C[None, None, None]).astype(self.dtype)


class GroupNorm(nn.Module):
    """Each group of channels of each image with mean 0 and variance 1 over all its places, times
    `scale` plus `bias` (Wu and He 2018); statistics in float32.
    """

    group: int  # channels of a group
    dtype: Any
    eps: float = 1e-5  # added to the variance
    zero: bool = False  # the scale begins at 0, not 1

    @nn.compact
    def __call__(self, x_BxYxXxC: Array) -> Array:
        """Raises ValueError where the groups do not divide the channels."""
        *places, channels = x_BxYxXxC.shape
        if channels % self.group:
            raise ValueError(f"{channels} channels cannot be cut into groups of {self.group}")
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        scale = parameter(self, "scale", zeros if self.zero else ones, (channels,), ("norm",))
        bias = parameter(self, "bias", zeros, (channels,), ("norm",))
        x = x_BxYxXxC.astype(jnp.float32).reshape(*places, channels // self.group, self.group)
        over = (*range(1, len(places)), x.ndim - 1)
        mean = x.mean(axis=over, keepdims=True)
        variance = jnp.square(x - mean).mean(axis=over, keepdims=True)
        x = ((x - mean) * jax.lax.rsqrt(variance + self.eps)).reshape(x_BxYxXxC.shape)
        shape = (1,) * len(places) + (channels,)
        return (x * scale.reshape(shape) + bias.reshape(shape)).astype(self.dtype)
