"""Losses of the right entity's score among others, and its filtered rank.

Takes a model's scores of every entity for both ends of a triple; gives `Rows`, float32.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.objectives.link_prediction import LinkPredictionConfig
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

_HITS = (1, 3, 10)
_ENDS = (("tail_scores", "tail", "true_tails"), ("head_scores", "head", "true_heads"))


def rows(config: LinkPredictionConfig) -> Loss:
    """softmax: cross-entropy over all entities, the mean of both ends (Joulin et al. 2017, arXiv
    1710.10881; Kadlec et al. 2017, arXiv 1705.10744). margin: by how much the scores of drawn
    entities come closer than the margin, the mean over them and both ends (Bordes et al. 2013, eq.
    1, with several for each triple).
    """

    def softmax(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        def nats(scores_BxE: Array, right_BxE: Array, end: int) -> Array:
            del end
            return jax.nn.logsumexp(scores_BxE, axis=1) - _at(scores_BxE, right_BxE)

        return _rows(outputs, batch, nats)

    def margin(model: Model, batch: Batch, keys: Array, hparams: Mapping[str, Any]) -> Rows:
        del hparams

        def short(scores_BxE: Array, right_BxE: Array, end: int) -> Array:
            entities = scores_BxE.shape[1]
            draw = jax.vmap(lambda key: jax.random.randint(key, (config.negatives,), 0, entities))
            drawn_BxN = draw(jax.vmap(jax.random.fold_in, (0, None))(keys, end))
            theirs_BxN = jnp.take_along_axis(scores_BxE, drawn_BxN, axis=1)
            # The right one itself is no other.
            other_BxN = ~jnp.take_along_axis(right_BxE, drawn_BxN, axis=1)
            behind_BxN = config.margin - _at(scores_BxE, right_BxE)[:, None] + theirs_BxN
            return jnp.mean(jnp.maximum(behind_BxN, 0) * other_BxN, axis=1)

        return _rows(model(batch), batch, short)

    return Loss(None, rows_by=margin) if config.loss == "margin" else Loss(softmax)


def _rows(outputs: Mapping[str, Any], batch: Batch, loss: Any) -> Rows:
    weight_B = batch["weight"].astype(jnp.float32)
    counted_B = weight_B > 0
    losses_B, ranks = jnp.zeros_like(weight_B), []
    for end, (scores, name, true) in enumerate(_ENDS):
        # What stands in a row without weight has no part in anything, be it NaN.
        scores_BxE = jnp.where(counted_B[:, None], outputs[scores].astype(jnp.float32), 0)
        place_BxE = jax.lax.broadcasted_iota(jnp.int32, scores_BxE.shape, 1)
        right_BxE = place_BxE == batch[name][:, None]
        losses_B += loss(scores_BxE, right_BxE, end) / len(_ENDS)
        ranks.append(_rank(scores_BxE, right_BxE, batch[true] > 0))
    rank_Bx2 = jnp.stack(ranks, axis=1)

    def mean(of_Bx2: Array) -> Array:
        counts_Bx2 = jnp.stack([of_Bx2.sum(axis=1), jnp.full_like(weight_B, len(_ENDS))], axis=1)
        return counts_Bx2 * weight_B[:, None]

    sums: dict[str, Sum | Array] = {
        "loss": Sum(losses_B * weight_B, weight_B),
        "reciprocal_rank": mean(1 / rank_Bx2),
    }
    sums |= {f"hits_{most}": mean((rank_Bx2 <= most).astype(jnp.float32)) for most in _HITS}
    return Rows(losses_B * weight_B, {}, sums)


def _rank(scores_BxE: Array, right_BxE: Array, true_BxE: Array) -> Array:
    """[B]: of the right entity by its score, among those that are not right too; of equals each is
    as often before it as behind.
    """
    others_BxE = ~right_BxE & ~true_BxE
    own_Bx1 = _at(scores_BxE, right_BxE)[:, None]
    before_BxE = (scores_BxE > own_Bx1) + 0.5 * (scores_BxE == own_Bx1)
    return 1 + jnp.where(others_BxE, before_BxE, 0).sum(axis=1)


def _at(scores_BxE: Array, right_BxE: Array) -> Array:
    """[B]: the right entity's score. A sum with one term, which every sharding can do."""
    return jnp.where(right_BxE, scores_BxE, 0).sum(axis=1)
