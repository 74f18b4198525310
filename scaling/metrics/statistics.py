"""What a row of a batch contributes to a metric, computed on the device. The only jax in this room.

Pure functions of model outputs and batch; objectives and evaluations call them. Every result is
float32, has the rows in front and adds up over them; rows of weight 0 are zeros, whatever stands in
them. Files of the same subject (`calibration.py`, `moments.py`, `linear_probe.py`) finish the sums.
"""

import jax
import jax.numpy as jnp

from scaling.metrics import exposure
from scaling.metrics.calibration import BINS

Array = jax.Array


# ---- calibration


def calibration(
    confidence_BxN: Array, correct_BxN: Array, weight_BxN: Array, bins: int = BINS
) -> Array:
    """[B, bins, 3]: count, sum of confidences and number of correct ones, in bins of equal width.

    Bin m has the confidences in (m / bins, (m + 1) / bins], the first one 0 too (Guo et al. 2017,
    section 2). N answers a row, such as tokens; or none, all three [B].
    """
    confidence_BxN, correct_BxN, weight_BxN = (
        x.reshape(x.shape[0], -1).astype(jnp.float32)
        for x in (confidence_BxN, correct_BxN, weight_BxN)
    )
    confidence_BxN = jnp.where(weight_BxN > 0, confidence_BxN, 0)
    bin_BxN = jnp.clip(jnp.ceil(confidence_BxN * bins).astype(jnp.int32) - 1, 0, bins - 1)
    parts_BxNx3 = jnp.stack([jnp.ones_like(confidence_BxN), confidence_BxN, correct_BxN], axis=-1)
    return jnp.einsum(
        "BNm,BNk->Bmk",
        jax.nn.one_hot(bin_BxN, bins),
        parts_BxNx3 * weight_BxN[..., None],
        precision=jax.lax.Precision.HIGHEST,
    )


def brier(probabilities_BxC: Array, label_B: Array) -> Array:
    """[B]: sum over classes of (probability - whether it is the label)^2, between 0 and 2 (Brier
    1950, Verification of forecasts expressed in terms of probability).
    """
    truth_BxC = jax.nn.one_hot(label_B, probabilities_BxC.shape[-1])
    return jnp.sum((probabilities_BxC - truth_BxC) ** 2, axis=-1)


# ---- secrets


def placed(loss_B: Array, planted_B: Array, weight_B: Array) -> Array:
    """[B, 2, bins]: the bin of each secret's loss, nats a symbol, under whether it was planted."""
    scale = exposure.BINS / exposure.MOST
    bin_B = jnp.clip(jnp.floor(loss_B * scale).astype(jnp.int32), 0, exposure.BINS - 1)
    where_Bx2 = jnp.stack([1 - planted_B, planted_B], axis=-1) * weight_B[:, None]
    return where_Bx2[..., None] * jax.nn.one_hot(bin_B, exposure.BINS)[:, None]


# ---- random text, read twice


def matching(weights_BxHxLxL: Array, tokens_BxL: Array, first: int) -> Array:
    """[B, H, 2]: what the places from `first` on give to those behind earlier ones of their own
    token, and how many places these are (Olsson et al. 2022, arXiv 2209.11895: prefix matching).
    """
    length = tokens_BxL.shape[1]
    before_BxL = jnp.pad(tokens_BxL[:, :-1], [(0, 0), (1, 0)], constant_values=-1)
    same_BxLxL = before_BxL[:, None, :] == tokens_BxL[:, :, None]
    place = jnp.arange(length)
    earlier_LxL = place[None, :] <= place[:, None]
    return _looked(weights_BxHxLxL, same_BxLxL & earlier_LxL[None], first)


def back(weights_BxHxLxL: Array, first: int) -> Array:
    """[B, H, 2]: what the places from `first` on give to the one before, and their number."""
    before_LxL = jnp.eye(weights_BxHxLxL.shape[-1], k=-1, dtype=bool)
    return _looked(weights_BxHxLxL, before_LxL[None], first)


def _looked(weights_BxHxLxL: Array, where_BxLxL: Array, first: int) -> Array:
    where = jnp.broadcast_to(where_BxLxL[:, None], weights_BxHxLxL.shape)
    total_BxH = jnp.where(where, weights_BxHxLxL, 0)[:, :, first:].sum(axis=(2, 3))
    count = float(weights_BxHxLxL.shape[2] - first)
    return jnp.stack([total_BxH, jnp.full_like(total_BxH, count)], axis=-1)


# ---- real targets


def explained(out_BxT: Array, targets_BxT: Array, weight_B: Array) -> Array:
    """[B, T, 4]: count, target, its square, squared error of `out`: what R² is made of."""
    parts = (jnp.ones_like(targets_BxT), targets_BxT, targets_BxT**2, (out_BxT - targets_BxT) ** 2)
    stacked_BxTx4 = jnp.stack(parts, axis=-1)
    return jnp.where(weight_B[:, None, None] > 0, stacked_BxTx4 * weight_B[:, None, None], 0)


# ---- features


def augmented(
    features_BxF: Array, targets_BxT: Array | None = None, center_F: Array | None = None
) -> Array:
    """[B, 1 + F + T], Z: 1, the features (less `center_F`) and the targets side by side.

    All moments of first and second order of a set are in Z^T Z. A constant `center_F` near the mean
    of the features keeps float32 sums of squares from swamping the variance; the same for all that
    is compared. Labels are targets as `jax.nn.one_hot(label, classes)`.
    """
    parts = [jnp.ones_like(features_BxF[:, :1]), features_BxF]
    if center_F is not None:
        parts[1] = features_BxF - center_F[None]
    if targets_BxT is not None:
        parts.append(targets_BxT)
    return jnp.concatenate([x.astype(jnp.float32) for x in parts], axis=1)


def second_moments(z_BxN: Array, weight_B: Array, each: int = 1) -> Array:
    """[B / each, N, N]: weighted sums of z z^T over `each` rows at a time, in their order.

    `each` > 1 keeps B x N x N numbers from being made; a standard error then takes the pieces for
    its sample. Raises ValueError if it does not divide B.
    """
    rows, width = z_BxN.shape
    if rows % each:
        raise ValueError(f"{rows} rows are not cut into pieces of {each}")
    z_BxN = jnp.where(weight_B[:, None] > 0, z_BxN, 0)
    z_PxExN = z_BxN.reshape(rows // each, each, width)
    # In full float32: what a narrower product loses is as large as a small variance.
    return jnp.einsum(
        "PEN,PEM->PNM",
        z_PxExN * weight_B.reshape(rows // each, each, 1),
        z_PxExN,
        precision=jax.lax.Precision.HIGHEST,
    )


def centred_moments(
    features_BxF: Array, targets_BxT: Array, weight_B: Array
) -> tuple[Array, Array]:
    """(sums [1 + F + T, 1 + F + T] of all rows, with the features less their mean; that mean [F]).

    What a mean far from 0 would swamp is kept; `linear_probe.uncentred` puts it back in float64, so
    that batches with different means add up.
    """
    features_BxF = jnp.where(weight_B[:, None] > 0, features_BxF.astype(jnp.float32), 0)
    mean_F = weight_B @ features_BxF / jnp.maximum(weight_B.sum(), 1)
    z_BxN = augmented(features_BxF, targets_BxT, mean_F)
    return second_moments(z_BxN, weight_B, each=len(z_BxN))[0], mean_F


def read_out(features_BxF: Array, coefficients: Array) -> Array:
    """[B, T]: what a linear probe says; `coefficients`: [1 + F, T] of `linear_probe.solve`."""
    z_BxN = augmented(features_BxF)
    w_NxT = coefficients.astype(jnp.float32)
    return jnp.dot(z_BxN, w_NxT, precision=jax.lax.Precision.HIGHEST)


def hits(features_BxF: Array, label_B: Array, weight_B: Array, coefficients: Array) -> Array:
    """[B, 2]: whether the largest output of a linear probe is the label, and the weight.

    `coefficients`: [1 + F, C] of `linear_probe.solve`, for the same centre of the features.
    """
    scores_BxC = read_out(features_BxF, coefficients)
    right_B = (jnp.argmax(scores_BxC, axis=-1) == label_B) & (weight_B > 0)
    return jnp.stack([right_B * weight_B, weight_B], axis=-1).astype(jnp.float32)
