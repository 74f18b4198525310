"""A pointer into the source, beside the vocabulary (See, Liu and Manning 2017, arXiv 1704.04368).

Takes the decoder's states and what the encoder has made of the source; gives where each place of
the target points and how much it goes by that, which `objectives/next_token/cross_entropy.py` mixes
with what the vocabulary says. Called by `network.py`.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.models.layers import Array, Projection, RMSNorm, rotate
from scaling.models.reading import Table
from scaling.objectives.next_token.cross_entropy import Pointed


class Pointer(nn.Module):
    """One head of attention to the source, of which the weights alone are used, and a gate (section
    2.2 of the paper, whose scores are not products of queries and keys, but of a hidden layer).
    """

    width: int
    channels: int  # of queries and keys; even, where they are turned
    dtype: Any
    norm_eps: float
    qk_norm: bool  # RMSNorm of queries and keys

    def setup(self) -> None:
        """A norm of the stream, two projections and the gate, which starts at a half."""

        def into() -> Projection:
            shape, axes = (self.width, self.channels), ("embed", "head_dim")
            return Projection("BLD,DK->BLK", shape, axes, self.dtype)

        self.stream_norm = RMSNorm(self.norm_eps, self.dtype)
        self.query, self.key = into(), into()
        if self.qk_norm:
            self.query_norm = RMSNorm(self.norm_eps, self.dtype)
            self.key_norm = RMSNorm(self.norm_eps, self.dtype)
        shape, axes = (self.width, 1), ("embed", "outputs")
        self.gate = Projection("BLD,DO->BLO", shape, axes, "float32", bias=True)

    def keys(self, memory_BxSxD: Array, table: Table | None = None) -> Array:
        """Of the source [B, S, K]; turned by the positions of `table`."""
        k_BxSxK = self.key(memory_BxSxD)
        if self.qk_norm:
            k_BxSxK = self.key_norm(k_BxSxK)
        return _turned(k_BxSxK, table)

    def __call__(
        self,
        x_BxTxD: Array,
        keys_BxSxK: Array,
        source_BxS: Array,
        is_source_BxS: Array,
        table: Table | None = None,
    ) -> Pointed:
        """Where places of the target, of which `x` is the decoder's stream, point in `source`,
        among the tokens that are there; and the logit of the share that the vocabulary has.

        Of a source without a token all places have the same weight: it is to count for nothing.
        """
        y_BxTxD = self.stream_norm(x_BxTxD)
        q_BxTxK = self.query(y_BxTxD)
        if self.qk_norm:
            q_BxTxK = self.query_norm(q_BxTxK)
        scores_BxTxS = jnp.einsum(
            "BTK,BSK->BTS",
            _turned(q_BxTxK, table),
            keys_BxSxK,
            preferred_element_type=jnp.float32,
        ) / math.sqrt(self.channels)
        scores_BxTxS = jnp.where(is_source_BxS[:, None], scores_BxTxS, _HIDDEN)
        weights_BxTxS = jax.nn.softmax(scores_BxTxS, axis=-1)
        return Pointed(source_BxS, weights_BxTxS, self.gate(y_BxTxD)[..., 0])


_HIDDEN = -1e30  # a score that no other is below; its weight is 0, unless all are such


def _turned(x_BxLxK: Array, table: Table | None) -> Array:
    return x_BxLxK if table is None else rotate(x_BxLxK[:, None], table)[:, 0]
