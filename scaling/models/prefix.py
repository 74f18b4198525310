"""Keys and values that are parameters, before those of the text (a transform makes them).

Takes the slots that an attention layer reads; gives them with the layer's own before them, which
every query sees, whatever its place and its document. Called by `attention.py`. Shapes as in
`layers.py`.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from scaling.models.flash import Piece
from scaling.models.layers import Array

KEY, VALUE = "prefix_key", "prefix_value"  # parameters of a layer


class Prefix(NamedTuple):
    """Of one layer: [G, P, K] each; keys are not turned by positions."""

    key_GxPxK: Array
    value_GxPxK: Array


def of_layer(layer: nn.Module) -> Prefix | None:
    """The prefix that a layer is applied with; None: there is none, or one of no keys."""
    if not layer.has_variable("params", KEY):
        return None
    found = Prefix(layer.get_variable("params", KEY), layer.get_variable("params", VALUE))
    return found if found.key_GxPxK.shape[-2] else None


def before(prefix: Prefix, piece: Piece, seen: Array | None) -> tuple[Piece, Array | None]:
    """The piece with the prefix before it, and what queries see of both (as `attention.weighed`
    takes it). Keys or values with more channels than the prefix's have zeros there.
    """
    batch = len(piece.k_BxGxSxK)
    count = prefix.key_GxPxK.shape[-2]

    def joined(x_GxPxK: Array, y_BxGxSxK: Array) -> Array:
        more = y_BxGxSxK.shape[-1] - x_GxPxK.shape[-1]
        x_GxPxK = jnp.pad(x_GxPxK.astype(y_BxGxSxK.dtype), ((0, 0), (0, 0), (0, more)))
        x_BxGxPxK = jnp.broadcast_to(x_GxPxK[None], (batch, *x_GxPxK.shape))
        return jnp.concatenate([x_BxGxPxK, y_BxGxSxK], axis=2)

    keys, values, _ = piece
    if seen is not None:
        always = jnp.ones((*seen.shape[:-1], count), bool)
        seen = jnp.concatenate([always, seen], axis=-1)
    pair = joined(prefix.key_GxPxK, keys), joined(prefix.value_GxPxK, values)
    return Piece(*pair, None), seen
