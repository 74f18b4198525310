"""The scores of DistMult: products of three vectors, entry by entry, added up.

Called through the family's record.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from scaling.families.distmult import DistMultConfig
from scaling.models import entities
from scaling.models.layers import Array


class DistMult(nn.Module):
    """score(h, r, t) = sum_d e_h[d] r[d] e_t[d] (section 3.1), the same for (t, r, h)."""

    config: DistMultConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """
        Args:
          batch: head, relation, tail: int32 [B].

        Returns:
          tail_scores, head_scores: float32 [B, E].
        """
        entities_ExD, relations_RxD = entities.tables(self, self.config)

        def sought(end_BxD: Array, weights_BxD: Array, tail: bool) -> Array:
            del tail
            return end_BxD * weights_BxD

        def score(q_SxBxD: Array, e_ExD: Array) -> Array:
            return jnp.einsum("SBD,ED->SBE", q_SxBxD, e_ExD)

        dtype = jnp.dtype(self.config.dtype)
        return entities.both_ends(sought, score, entities_ExD, relations_RxD, batch, dtype)
