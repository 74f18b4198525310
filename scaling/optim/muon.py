"""Muon: hidden matrices move by their momentum made orthogonal, everything else by AdamW.

Takes the traced hyper-parameters and the roles of the parameters; gives an optax transformation.
One learning rate serves both: an orthogonal matrix of a x b is multiplied by 0.2 sqrt(max(a, b)),
so that its entries are as large as AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2). The
momentum decays by b1, as AdamW's. Called by `optimizer.py`.
"""

import math
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from scaling.devices.sharding import is_box
from scaling.optim import subtree
from scaling.optim.roles import Leaf

_RMS = 0.2  # of AdamW's updates, as section 2.2 measures them


def muon(h: Any, leaves: dict[str, Leaf]) -> optax.GradientTransformation:
    """Raises KeyError for a parameter that is not among `leaves` (path -> leaf)."""

    def of(path: tuple[Any, ...]) -> Leaf:
        return leaves[subtree.name(path)]

    def labels(params: Any) -> Any:
        """Of whole boxes: one around nothing would have no place on a mesh."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "muon" if of(path).role == "hidden" else "adamw", params, is_leaf=is_box
        )

    def dimensions(updates: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: MuonDimensionNumbers(of(path).ins, of(path).outs), updates
        )

    def sized(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        return _RMS * math.sqrt(max(of(path).fan_in, of(path).fan_out)) * update

    orthogonal = scale_by_muon(beta=h["b1"], weight_dimension_numbers=dimensions)
    sizes = optax.stateless(lambda u, _: jax.tree_util.tree_map_with_path(sized, u))
    return optax.partition(
        {
            "muon": optax.chain(orthogonal, sizes),
            "adamw": optax.scale_by_adam(h["b1"], h["b2"], h["eps"]),
        },
        labels,
    )
