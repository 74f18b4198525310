"""Images at another number of pixels. Called by `splits.py`."""

import functools

import numpy as np


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images [B, H, W, C] at height x width pixels: float32, linear between the centres of pixels;
    where an image shrinks, means weighted by a triangle as wide as two of its new pixels.
    """
    down, along = _weights(pixels.shape[1], height), _weights(pixels.shape[2], width)
    return np.einsum("yi,bijc,xj->byxc", down, pixels.astype(np.float32), along, optimize=True)


@functools.cache
def _weights(before: int, after: int) -> np.ndarray:
    """float32 [after, before]: the shares of old pixels in new ones."""
    centre = (np.arange(after) + 0.5) * before / after - 0.5
    distance = np.abs(np.arange(before) - centre[:, None]) / max(1.0, before / after)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
