"""What lies beside a model's parameters: a teacher's, untrained, and the map to its states
(`taught.py`); and what an earlier task left to hold on to: its parameters and their Fisher
information.

`alone` takes all of it away. `anchored` is a transform of parameters with room for the last,
`pulled` the gradient of the penalty: called by `transform.py` and by the step.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from scaling.objectives.distillation import TEACHER
from scaling.optim import subtree

if TYPE_CHECKING:
    from scaling.transforms.transform import Functions

MAP = "feature_map"  # key of the map of a student's states to its teacher's, which is trained
ANCHOR = "anchor"  # key of {"at": parameters, "fisher": their information}, of those trained


def alone(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without what lies beside them."""
    return {name: tree for name, tree in stored.items() if name not in (TEACHER, MAP, ANCHOR)}


def apart(of: "Functions") -> "Functions":
    """As these, of parameters beside which others lie."""
    outside = f"{TEACHER}/", f"{ANCHOR}/"
    return dataclasses.replace(
        of,
        apply=lambda stored: of.apply(alone(stored)),
        trained=lambda path: (
            path.startswith(f"{MAP}/") or (not path.startswith(outside) and of.trained(path))
        ),
        measured=lambda stored: of.measured(alone(stored)),
    )


def anchored(of: "Functions") -> "Functions":
    """As these, with an anchor beside the parameters, which nothing holds yet."""

    def init(params: Any, key: jax.Array) -> Any:
        own = of.init(params, key)
        at = subtree.where(own, of.trained)
        return own | {ANCHOR: {"at": at, "fisher": jax.tree.map(jnp.zeros_like, at)}}

    return dataclasses.replace(of, init=init)


def pulled(grads: Any, stored: Mapping[str, Any], weight: jax.Array) -> Any:
    """The gradient with that of weight / 2 times the sum of F (w - w before)^2 (Kirkpatrick et al.
    2017, arXiv 1612.00796, eq. 3).

    Of a sum over pieces of a batch the penalty is no part: it is added once.
    """

    def pull(g: jax.Array, w: jax.Array, at: jax.Array, fisher: jax.Array) -> jax.Array:
        return g + weight * fisher * (w - at)

    held = (subtree.like(stored[ANCHOR][name], grads) for name in ("at", "fisher"))
    return jax.tree.map(pull, grads, subtree.like(stored, grads), *held)
