"""Images as sequences of patches. Called by the families whose places are pieces of an image.

Shapes as in `layers.py`, with P the numbers of a patch: its pixels times its channels.
"""

from typing import Any

import flax.linen as nn

from scaling.models.layers import Array, Projection, constrain


class Patches(nn.Module):
    """Patches that do not overlap, row after row, each times one matrix plus a bias: the
    convolution with stride of Dosovitskiy et al. 2021 (arXiv 2010.11929, equation 1).
    """

    sides: tuple[int, int]  # height and width of a patch, pixels
    width: int  # channels
    dtype: Any

    @nn.compact
    def __call__(self, x_BxYxXxC: Array) -> Array:
        """[B, Y, X, C] -> [B, L, D]."""
        x_BxLxP = cut(x_BxYxXxC, self.sides)
        shape, axes = (x_BxLxP.shape[-1], self.width), ("inputs", "embed")
        into = Projection("BLP,PD->BLD", shape, axes, self.dtype, bias=True, name="linear")
        return constrain(into(x_BxLxP))


def cut(x_BxYxXxC: Array, sides: tuple[int, int]) -> Array:
    """The patches as they are, row after row: [B, Y, X, C] -> [B, L, P]."""
    rows, height, width, channels = x_BxYxXxC.shape
    y, x = sides
    pieces = x_BxYxXxC.reshape(rows, height // y, y, width // x, x, channels)
    return pieces.swapaxes(2, 3).reshape(rows, -1, y * x * channels)
