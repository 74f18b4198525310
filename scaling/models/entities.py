"""Tables of entities and relations, and the scores of everything that a triple could end in.

Shapes: B triples, E entities, R relations, D width, S = 2 ends. The families that embed a graph say
what they look for, of an end and a relation; this gives the score of each entity for being it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from scaling.models.embedding import lookup
from scaling.models.layers import Array, parameter, truncated_normal

# (given end [B, D], relation [B, D], whether the tail is looked for) -> what is looked for [B, D].
Sought = Callable[[Array, Array, bool], Array]
# (what is looked for [S, B, D], entities [E, D]) -> scores [S, B, E].
Score = Callable[[Array, Array], Array]


def tables(module: nn.Module, config: Any) -> tuple[Array, Array]:
    """(entities [E, D], relations [R, D]), parameters of the module in float32, of entries with
    standard deviations D^-1/2 and 1, times `init_scale`.
    """
    width, axes = config.width, ("vocab", "embed")
    shapes = {"entities": (config.entities, width), "relations": (config.relations, width)}
    stds = {"entities": width**-0.5, "relations": 1.0}
    return tuple(  # type: ignore[return-value]
        parameter(module, name, truncated_normal(config.init_scale * stds[name]), shape, axes)
        for name, shape in shapes.items()
    )


def both_ends(
    sought: Sought,
    score: Score,
    entities_ExD: Array,
    relations_RxD: Array,
    batch: Mapping[str, Array],
    dtype: Any,
) -> dict[str, Array]:
    """tail_scores and head_scores, float32 [B, E]: of every entity in the place of either end."""

    def row(table: Array, name: str) -> Array:
        return lookup(table, batch[name][:, None], dtype)[:, 0]

    relation_BxD = row(relations_RxD, "relation")
    whole_ExD = nn.with_logical_constraint(entities_ExD.astype(dtype), ("act_vocab", "act_embed"))
    ends = ((row(entities_ExD, "head"), True), (row(entities_ExD, "tail"), False))
    q_SxBxD = jnp.stack([sought(end_BxD, relation_BxD, tail) for end_BxD, tail in ends])
    scores_SxBxE = score(q_SxBxD, whole_ExD).astype(jnp.float32)
    scores_SxBxE = nn.with_logical_constraint(scores_SxBxE, (None, "batch", "act_vocab"))
    return {"tail_scores": scores_SxBxE[0], "head_scores": scores_SxBxE[1]}
