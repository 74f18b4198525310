"""Generated against wanted sequences of tokens: exact matches and matching tokens, as sums.

NumPy only: what is generated comes to the host anyway. Every function gives the statistic of a
mean, float64 [B, 2] of total and count, for `finish.finish`.
"""

import numpy as np


def exact_match(
    generated_BxL: np.ndarray,
    lengths_B: np.ndarray,
    wanted_BxK: np.ndarray,
    wanted_lengths_B: np.ndarray,
    weight_B: np.ndarray,
) -> np.ndarray:
    """1 for a row whose first `lengths` tokens are the first `wanted_lengths` of `wanted`, and no
    more and no fewer; else 0. Tokens beyond the lengths are not looked at.
    """
    agree_BxK = _agree(generated_BxL, lengths_B, wanted_BxK, wanted_lengths_B)
    all_B = (agree_BxK.sum(axis=1) == wanted_lengths_B) & (lengths_B == wanted_lengths_B)
    return np.stack([all_B * weight_B, weight_B], axis=1).astype(np.float64)


def token_accuracy(
    generated_BxL: np.ndarray,
    lengths_B: np.ndarray,
    wanted_BxK: np.ndarray,
    wanted_lengths_B: np.ndarray,
    weight_B: np.ndarray,
) -> np.ndarray:
    """Wanted tokens that were generated at their place, of all wanted tokens: one that is missing
    counts as wrong, one too many does not count.
    """
    agree_BxK = _agree(generated_BxL, lengths_B, wanted_BxK, wanted_lengths_B)
    counts_Bx2 = np.stack([agree_BxK.sum(axis=1), wanted_lengths_B], axis=1)
    return counts_Bx2 * np.asarray(weight_B, np.float64)[:, None]


def _agree(
    generated_BxL: np.ndarray,
    lengths_B: np.ndarray,
    wanted_BxK: np.ndarray,
    wanted_lengths_B: np.ndarray,
) -> np.ndarray:
    """bool [B, K]: the token was generated, is wanted, and is the same."""
    width = wanted_BxK.shape[1]
    missing = max(0, width - generated_BxL.shape[1])
    ours_BxK = np.pad(generated_BxL, ((0, 0), (0, missing)))[:, :width]
    place_K = np.arange(width)
    there_BxK = place_K < np.minimum(lengths_B, wanted_lengths_B)[:, None]
    return there_BxK & (ours_BxK == wanted_BxK)
