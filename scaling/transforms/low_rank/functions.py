"""In the place of a matrix "w" lie "w_left" [..., inputs..., rank] and "w_right" [..., rank,
outputs...]; w is used as their product.

Both begin with the root of the largest singular values of the w that is drawn, or that another run
has trained: the nearest product of that rank (Eckart and Young 1936), its two factors of equal
size (Khodak et al. 2021, section 3.1). Layers and experts come first in both, a matrix each.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.roles import cut
from scaling.optim.subtree import matches
from scaling.transforms.lora.functions import product
from scaling.transforms.low_rank import LowRankConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns

_LEFT, _RIGHT = "_left", "_right"
RANK = "rank"  # logical axis of both factors


def functions(config: LowRankConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    whole = sum(math.prod(leaf.shape) for leaf in leaves().values())
    stacks = {path: found[0] for path, leaf in leaves().items() if (found := cut(path, leaf.axes))}

    def begun(drawn: Any, taken: Any) -> Any:
        """Of matrices that another run has trained, the factors anew."""
        found = dict(subtree.leaves(taken))
        for path in [path for path in found if path + _LEFT in found]:
            left, w = found[path + _LEFT], found.pop(path)
            inputs = left.ndim - 1 - stacks[path]
            found |= _factored(path, w, stacks[path], inputs, left.shape[-1])
        return subtree.nested(found)

    return Functions(
        init=lambda params, key: _init(config, params),
        apply=lambda stored: _apply(stacks, stored),
        trained=lambda path: True,
        begun=begun,
        measured=lambda stored: {"density": _density(stored, whole)},
    )


def _density(stored: Any, whole: int) -> jax.Array:
    """Numbers that are stored, over those that are used."""
    return jnp.float32(sum(leaf.size for _, leaf in subtree.leaves(stored)) / whole)


def _init(config: LowRankConfig, params: Any) -> Any:
    boxes = dict(subtree.leaves(params))
    can = {path: found for path, box in boxes.items() if (found := cut(path, tuple(box.names)))}
    wanted = check_patterns("transform.modules", config.modules, list(can))
    if not wanted:
        raise ConfigError("transform.modules is empty; name matrices, such as blocks, or * for all")
    for path in (path for path in can if matches(path, wanted)):
        box, (stacked, inputs) = boxes.pop(path), can[path]
        names, shape = tuple(box.names), box.value.shape
        ins, outs = slice(stacked, stacked + inputs), slice(stacked + inputs, None)
        least = min(math.prod(shape[ins]), math.prod(shape[outs]))
        rank = max(1, round(config.share * least))
        factors = _factored(path, box.value, stacked, inputs, rank)
        axes = {
            path + _LEFT: (*names[: stacked + inputs], RANK),
            path + _RIGHT: (*names[:stacked], RANK, *names[outs]),
        }
        boxes |= {name: nn.LogicallyPartitioned(x, axes[name]) for name, x in factors.items()}
    return subtree.nested(boxes)


def _factored(
    path: str, w: jax.Array, stacked: int, inputs: int, rank: int
) -> dict[str, jax.Array]:
    """The two factors of each matrix of a stack."""
    stack, ins, outs = w.shape[:stacked], w.shape[stacked:][:inputs], w.shape[stacked + inputs :]
    flat = w.astype(jnp.float32).reshape(*stack, math.prod(ins), math.prod(outs))
    u, s, v = jnp.linalg.svd(flat, full_matrices=False)
    root = jnp.sqrt(s[..., :rank])
    left, right = u[..., :rank] * root[..., None, :], root[..., :, None] * v[..., :rank, :]
    return {
        path + _LEFT: left.reshape(*stack, *ins, rank).astype(w.dtype),
        path + _RIGHT: right.reshape(*stack, rank, *outs).astype(w.dtype),
    }


def _apply(stacks: Mapping[str, int], stored: Any) -> Any:
    leaves = dict(subtree.leaves(stored))
    for name in [name for name in leaves if name.endswith(_LEFT)]:
        path = name.removesuffix(_LEFT)
        left, right = leaves.pop(name), leaves.pop(path + _RIGHT)
        shape = *left.shape[:-1], *right.shape[stacks[path] + 1 :]
        leaves[path] = product(left, right, shape)
    return subtree.nested(leaves)
