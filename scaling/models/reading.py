"""Attention of one sequence to another, or to itself, over the slots that a mask says are seen.

All scores exist at once: for sequences of some hundred places, such as sentences and patches.
Called by families whose blocks attend to more than their own stream's past.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from scaling.models.attention import scaled, slots_as_values, weighed
from scaling.models.flash import Piece
from scaling.models.layers import Array, Projection, RMSNorm, rotate
from scaling.models.observed import tell

Table = tuple[Array, Array]  # of `layers.rope_table`


class Reading(nn.Module):
    """Softmax attention with queries of one stream, and keys and values of another (Vaswani et al.
    2017, section 3.2.2).

    Two calls: `keys` of what is read, then the layer itself, so that a decoder reads its source's
    keys at every step and makes them once.
    """

    heads: int
    head_dim: int
    out_width: int
    dtype: Any
    out_scale: float = 1.0
    norm_eps: float | None = None  # of RMSNorm of queries and keys, per head; None: there is none
    scale_scores: bool = True  # divided by the root of a head's channels

    def setup(self) -> None:
        """The four projections."""

        def into() -> Projection:
            shape = (self.out_width, self.heads, self.head_dim)
            return Projection("BLD,DHK->BLHK", shape, ("embed", "heads", "head_dim"), self.dtype)

        self.query, self.key, self.value = into(), into(), into()
        shape, axes = (self.heads, self.head_dim, self.out_width), ("heads", "head_dim", "embed")
        self.out = Projection("BLHK,HKD->BLD", shape, axes, self.dtype, self.out_scale)
        if self.norm_eps is not None:
            self.query_norm = RMSNorm(self.norm_eps, self.dtype)
            self.key_norm = RMSNorm(self.norm_eps, self.dtype)

    def keys(self, y_BxSxD: Array, table: Table | None = None) -> Table:
        """Keys and values [B, H, S, K] of what is read; keys turned by the positions of `table`."""
        k_BxHxSxK, v_BxHxSxK = _by_head(self.key(y_BxSxD)), _by_head(self.value(y_BxSxD))
        if self.norm_eps is not None:
            k_BxHxSxK = self.key_norm(k_BxHxSxK)
        return _turned(k_BxHxSxK, table), v_BxHxSxK

    def __call__(
        self,
        x_BxLxD: Array,
        keys: Table,
        seen_BxLxS: Array,
        table: Table | None = None,
        bias_HxLxS: Array | None = None,
    ) -> Array:
        """What [B, L, D] places read of the keys; `seen`: bool, where a place may look; `bias` is
        added to the scores.

        A place that sees nothing gets the mean of all values: it is to count for nothing.
        """
        q_BxHxLxK = _by_head(self.query(x_BxLxD))
        if self.norm_eps is not None:
            q_BxHxLxK = self.query_norm(q_BxHxLxK)
        q_BxHxLxK = _turned(q_BxHxLxK, table)
        if self.scale_scores:
            q_BxHxLxK = scaled(q_BxHxLxK)
        seen = seen_BxLxS[:, None, None]

        def weights() -> Array:
            piece = Piece(keys[0], slots_as_values(keys[0]), None)
            return weighed(q_BxHxLxK, piece, seen, bias_HxLxS)

        tell("weights", self.name or "", weights)
        out_BxHxLxK = weighed(q_BxHxLxK, Piece(*keys, None), seen, bias_HxLxS)
        return self.out(jnp.swapaxes(out_BxHxLxK, 1, 2))


def _by_head(y_BxLxHxK: Array) -> Array:
    y_BxHxLxK = jnp.swapaxes(y_BxLxHxK, 1, 2)
    return nn.with_logical_constraint(y_BxHxLxK, ("batch", "act_heads", "seq", None))


def _turned(x_BxHxLxK: Array, table: Table | None) -> Array:
    return x_BxHxLxK if table is None else rotate(x_BxHxLxK, table)
