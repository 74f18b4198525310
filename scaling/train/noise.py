"""The noise of the gradient, from the pieces of a batch that are there anyway: no second pass.

Of pieces with gradients g_m of the loss summed over their c_m units, and with g and c the sums of
both over the batch, as an analysis of variance (McCandlish et al. 2018, arXiv 1812.06162, appendix
A.1, where all pieces are of one size):

    noise  = (sum_m |g_m|^2 / c_m  -  |g|^2 / c) / (pieces - 1)     the trace of a unit's covariance
    square = |g / c|^2 - noise / c                                  of the true gradient

Both are without bias, also where a mask leaves the pieces with different counts. Their ratio, each
averaged over steps, is the simple noise scale: the batch, in units, whose noise is as large as its
gradient (`records/noise.py`). Called by `step.py`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from scaling.objectives.objective import Sum

_PIECES = "pieces"


def of_piece(grads: Any, sums: Mapping[str, Sum]) -> dict[str, Sum]:
    """What adds up over pieces, microbatches and devices alike: (|g_m|^2 / c_m, 1)."""
    count = jnp.maximum(sums["loss"].count, 1.0)
    return {_PIECES: Sum(optax.tree.norm(grads, squared=True) / count, jnp.float32(1.0))}


def of_batch(grads: Any, sums: Mapping[str, Sum]) -> dict[str, Sum]:
    """The sums with `gradient_noise` and `gradient_square` in the place of that.

    `grads` is the mean gradient of the batch, in units of the loss's count. One piece has no noise
    that could be seen: both are then NaN.
    """
    found = dict(sums)
    pieces, count = found.pop(_PIECES), jnp.maximum(sums["loss"].count, 1.0)
    square = optax.tree.norm(grads, squared=True)
    noise = (pieces.total - count * square) / (pieces.count - 1.0)
    one = jnp.float32(1.0)
    return found | {
        "gradient_noise": Sum(noise, one),
        "gradient_square": Sum(square - noise / count, one),
    }
