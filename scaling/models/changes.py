"""Images turned, scaled and moved, in one resampling, and coloured. Called by what changes images
as they are seen: augmentation in training, and the views of objectives.
"""

import functools

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from scaling.models.layers import Array


def turned(
    degrees: float, scale: float, image_YxXxC: Array, key: Array, shift: float = 0.0
) -> Array:
    """An image turned by up to `degrees` about its middle, either way, made larger or smaller by up
    to `scale`, and moved by up to `shift` of each side; between pixels it is linear, and beyond its
    edge as at its edge.
    """
    turn, larger = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
    angle, factor = jnp.deg2rad(degrees * turn), 1 / (1 + scale * larger)
    height, width, _ = image_YxXxC.shape
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    y, x = factor * (y - (height - 1) / 2), factor * (x - (width - 1) / 2)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    at = [y * cos - x * sin + (height - 1) / 2, y * sin + x * cos + (width - 1) / 2]
    if shift:
        by = jax.random.uniform(jax.random.fold_in(key, 1), (2,), minval=-shift, maxval=shift)
        at = [at[0] + by[0] * height, at[1] + by[1] * width]
    channel = functools.partial(map_coordinates, coordinates=at, order=1, mode="nearest")
    return jax.vmap(channel, in_axes=2, out_axes=2)(image_YxXxC)


def coloured(strength: float, image_YxXxC: Array, key: Array) -> Array:
    """An image whose channels' distances from their mean at each pixel, then all distances from the
    mean of the image, are multiplied by 1 - `strength` to 1 + `strength`, and to which -`strength`
    to `strength` standard deviations of the data are added: saturation, contrast and brightness.
    """
    color, contrast, light = strength * jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    grey_YxXx1 = image_YxXxC.mean(axis=-1, keepdims=True)
    made_YxXxC = grey_YxXx1 + (1 + color) * (image_YxXxC - grey_YxXx1)
    mean = made_YxXxC.mean()
    return mean + (1 + contrast) * (made_YxXxC - mean) + light
