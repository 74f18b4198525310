"""Images made worse, to ask how a model fares where it was not trained: five kinds, at five
severities (after Hendrycks and Dietterich 2019, arXiv 1903.12261; the scales are our own, in units
that images of any size and range have).

Takes standardised images and a key for each; gives them changed. What is drawn goes by the key, not
by the severity: an image is turned the same way at each, only further. Called by `splits.py`.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from scaling.data import draws

SEVERITIES = range(1, 6)
_NOISE = (0.25, 0.5, 0.75, 1.0, 1.5)  # standard deviation, in those of the training pixels
_BLUR = (0.4, 0.6, 0.8, 1.1, 1.5)  # standard deviation of a Gaussian, pixels
_CONTRAST = (0.75, 0.5, 0.35, 0.2, 0.1)  # what is left of the distance to the image's mean
_OCCLUSION = (0.05, 0.1, 0.2, 0.3, 0.4)  # share of the image's area
_ROTATION = (10.0, 20.0, 30.0, 45.0, 60.0)  # degrees, to either side


def _noise(images: np.ndarray, keys: np.ndarray, level: int) -> np.ndarray:
    drawn = draws.normals(keys, math.prod(images.shape[1:])).reshape(images.shape)
    return images + _NOISE[level] * drawn


def _blur(images: np.ndarray, keys: np.ndarray, level: int) -> np.ndarray:
    del keys
    sides = [_BLUR[level] * (side > 1) for side in images.shape[1:3]]
    return ndimage.gaussian_filter(images, (0, *sides, 0), mode="nearest")


def _contrast(images: np.ndarray, keys: np.ndarray, level: int) -> np.ndarray:
    del keys
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + _CONTRAST[level] * (images - mean)


def _occlusion(images: np.ndarray, keys: np.ndarray, level: int) -> np.ndarray:
    """A rectangle of the image's proportions is 0, the mean of the training pixels."""
    sides = images.shape[1:3]
    dimensions = sum(side > 1 for side in sides)
    part = _OCCLUSION[level] ** (1 / max(1, dimensions))
    bits = draws.bits(keys, 2) >> np.uint64(11)
    at = bits.astype(np.float64) * 2.0**-53  # in [0, 1)
    inside = np.ones(images.shape[:3], bool)
    for axis, side in enumerate(sides):
        covered = side if side == 1 else max(1, round(part * side))
        begin = np.floor(at[:, axis] * (side - covered + 1))[:, None]
        along = (np.arange(side) >= begin) & (np.arange(side) < begin + covered)
        inside &= along[:, :, None] if axis == 0 else along[:, None, :]
    return np.where(inside[..., None], 0.0, images)


def _rotation(images: np.ndarray, keys: np.ndarray, level: int) -> np.ndarray:
    signs = 1 - 2 * draws.whole(keys, 1, 2)[:, 0]
    turned = [
        ndimage.rotate(image, sign * _ROTATION[level], reshape=False, order=1, mode="nearest")
        for image, sign in zip(images, signs, strict=True)
    ]
    return np.stack(turned) if turned else images


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "occlusion": _occlusion,
    "rotation": _rotation,
}


def corrupted(images: np.ndarray, keys: np.ndarray, name: str, severity: int) -> np.ndarray:
    """float32 [B, H, W, C], from such images, with mean 0 and variance 1 over the training pixels,
    and uint64 keys [B]; severity 1 to 5.
    """
    found = CORRUPTIONS[name](
        images, draws.folded(draws.key("corruption", name), keys), severity - 1
    )
    return found.astype(np.float32)
