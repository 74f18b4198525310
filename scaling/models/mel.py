"""Log-mel spectrograms: samples of sound to bands of frequencies over time.

As librosa reckons them by default (its `feature.melspectrogram`): a Hann window, frames about every
hop's first sample with zeros beyond the ends, power, triangles on Slaney's mel scale of equal area.
The Fourier transform is a product with a matrix: for some hundred samples that is as fast, and
every accelerator and the ledger know it. Called by the families that hear.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

WINDOW, HOP = 0.025, 0.010  # seconds, as is usual
_FLOOR = 1e-6  # added to the power of samples between -1 and 1 before the logarithm
_LINEAR, _STEP = 1000.0, 200 / 3  # Hz: below the first the scale is linear, of so many a mel
_LOG_STEP = np.log(6.4) / 27  # above it a mel multiplies the frequency by the exponential of this


def sizes(rate: int) -> tuple[int, int, int]:
    """(window, hop, length of the transform), in samples."""
    window, hop = round(WINDOW * rate), round(HOP * rate)
    return window, hop, 2 ** int(np.ceil(np.log2(window)))


def frames_of(samples: Any, rate: int) -> Any:
    """How many frames so many samples have."""
    return samples // sizes(rate)[1] + 1


def log_mel(audio_BxS: Array, rate: int, bands: int) -> Array:
    """Logarithm of the power in each band, float32 [B, frames, bands]."""
    window, hop, length = sizes(rate)
    count = frames_of(audio_BxS.shape[1], rate)
    padded = jnp.pad(audio_BxS.astype(jnp.float32), ((0, 0), (length // 2, length // 2)))
    before = (length - window) // 2  # the window is zero there
    places = np.arange(count)[:, None] * hop + before + np.arange(window)[None]
    frames_BxLxN = padded[:, places]
    # In float32 on every chip: differences of large terms, as in a spectrum's valleys.
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    parts_BxLxF = product("BLN,NF->BLF", frames_BxLxN, _transform(window, length))
    real, imaginary = jnp.split(parts_BxLxF, 2, axis=-1)
    power_BxLxF = real * real + imaginary * imaginary
    mel_BxLxM = product("BLF,FM->BLM", power_BxLxF, filters(rate, length, bands))
    return jnp.log(mel_BxLxM + _FLOOR)


@functools.cache
def _transform(window: int, length: int) -> np.ndarray:
    """[window, 2 (length / 2 + 1)]: cosines, then sines, under the window."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    angles = 2 * np.pi * np.outer(np.arange(window), np.arange(length // 2 + 1)) / length
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return (hann[:, None] * waves).astype(np.float32)


@functools.cache
def filters(rate: int, length: int, bands: int) -> np.ndarray:
    """[length / 2 + 1, bands] (Slaney 1998, Auditory Toolbox): triangles between neighbours of
    neighbours on the mel scale from 0 to half the rate, each of area 1 over Hz.
    """
    frequencies = np.arange(length // 2 + 1) * rate / length
    edges = _hertz(np.linspace(0, _mels(rate / 2), bands + 2))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - low[None]) / (middle - low)[None]
    falling = (high[None] - frequencies[:, None]) / (high - middle)[None]
    area = 2 / (high - low)
    return (np.maximum(0, np.minimum(rising, falling)) * area[None]).astype(np.float32)


def _mels(hertz: float) -> float:
    if hertz < _LINEAR:
        return hertz / _STEP
    return float(_LINEAR / _STEP + np.log(hertz / _LINEAR) / _LOG_STEP)


def _hertz(mels: np.ndarray) -> np.ndarray:
    first = _LINEAR / _STEP
    return np.where(
        mels < first, mels * _STEP, _LINEAR * np.exp(_LOG_STEP * np.maximum(0, mels - first))
    )
