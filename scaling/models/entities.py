"""Tables of entities and relations, and the scores of everything that a triple could end in.

Shapes: B triples, E entities, R relations, D width. The families that embed a graph say what they
look for, of an end and a relation; this gives the score of each entity for being it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.models.embedding import lookup
from scaling.models.layers import Array, parameter, truncated_normal

# (given end [B, D], relation [B, D], whether the tail is looked for) -> what is looked for [B, D].
Sought = Callable[[Array, Array, bool], Array]


def tables(module: nn.Module, config: Any) -> tuple[Array, Array]:
    """(entities [E, D], relations [R, D]), parameters of the module in float32, of entries with
    variance 1 / D and 1.
    """
    width, axes = config.width, ("vocab", "embed")
    shapes = {"entities": (config.entities, width), "relations": (config.relations, width)}
    stds = {"entities": width**-0.5, "relations": 1.0}
    return tuple(  # type: ignore[return-value]
        parameter(module, name, truncated_normal(stds[name]), shape, axes)
        for name, shape in shapes.items()
    )


def both_ends(
    sought: Sought,
    score: Callable[[Array, Array], Array],
    entities_ExD: Array,
    relations_RxD: Array,
    batch: Mapping[str, Array],
    dtype: Any,
) -> dict[str, Array]:
    """tail_scores and head_scores, float32 [B, E]: of every entity in the place of either end.

    `score` takes what is sought [B, D] and the entities [E, D].
    """

    def row(table: Array, name: str) -> Array:
        return lookup(table, batch[name][:, None], dtype)[:, 0]

    relation_BxD = row(relations_RxD, "relation")
    whole_ExD = nn.with_logical_constraint(entities_ExD.astype(dtype), ("act_vocab", "act_embed"))
    found = {}
    for name, given, tail in (("tail_scores", "head", True), ("head_scores", "tail", False)):
        with jax.named_scope(name):
            q_BxD = sought(row(entities_ExD, given), relation_BxD, tail)
            scores_BxE = score(q_BxD, whole_ExD).astype(jnp.float32)
            found[name] = nn.with_logical_constraint(scores_BxE, ("batch", "act_vocab"))
    return found
