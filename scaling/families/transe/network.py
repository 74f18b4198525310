"""The scores of TransE: minus the distance from where a relation leads.

Called through the family's record.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.families.transe import TransEConfig
from scaling.models import entities
from scaling.models.layers import Array

_EPS = 1e-6  # squared, below which lengths and distances are not told apart


class TransE(nn.Module):
    """score(h, r, t) = -|e_h + r - e_t| / temperature, with entities of length 1 (section 2)."""

    config: TransEConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """
        Args:
          batch: head, relation, tail: int32 [B].

        Returns:
          tail_scores, head_scores: float32 [B, E].
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        entities_ExD, relations_RxD = entities.tables(self, c)

        def sought(end_BxD: Array, step_BxD: Array, tail: bool) -> Array:
            return end_BxD + step_BxD if tail else end_BxD - step_BxD

        def score(q_SxBxD: Array, e_ExD: Array) -> Array:
            both_SxBxE = jnp.einsum("SBD,ED->SBE", q_SxBxD, e_ExD).astype(jnp.float32)
            own_SxB, own_E = (jnp.sum(x.astype(jnp.float32) ** 2, -1) for x in (q_SxBxD, e_ExD))
            square_SxBxE = own_SxB[..., None] + own_E[None, None] - 2 * both_SxBxE
            return -jnp.sqrt(jnp.maximum(square_SxBxE, _EPS)) / c.temperature

        unit_ExD = entities_ExD * jax.lax.rsqrt(
            jnp.sum(entities_ExD**2, axis=1, keepdims=True) + _EPS
        )
        return entities.both_ends(sought, score, unit_ExD, relations_RxD, batch, dtype)
