"""What the frequencies of rotary positions are multiplied with, by `model.rope_scaling`. Called by
the network; NumPy only.
"""

import numpy as np

from scaling.families.transformer.fields import RopeScalingConfig


def multipliers(scaling: RopeScalingConfig, head_dim: int, theta: float) -> np.ndarray | None:
    """float32 [head_dim / 2]; None: they stay as they are.

    linear divides all by the factor, so that positions are interpolated (Chen et al. 2023, arXiv
    2306.15595). llama3 divides those that turn fewer than `low` times in a row of `length` tokens,
    leaves those that turn more than `high` times, and between them goes from one to the other
    linearly in the number of turns (Llama 3.1, as its published code has it; Grattafiori et al.
    2024, arXiv 2407.21783, section 3.4.2, give the base alone).
    """
    if scaling.kind == "none":
        return None
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    kept = np.zeros_like(frequencies)
    if scaling.kind == "llama3":
        turns = scaling.length * frequencies / (2 * np.pi)
        kept = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
    found: np.ndarray = kept + (1 - kept) / scaling.factor
    return found.astype(np.float32)
