"""Rounding that knows its inputs: what a weight loses is made up for by those not yet rounded.

GPTQ (Frantar et al. 2022, arXiv 2210.17323, algorithm 1), input after input. Takes a matrix, its
scales and the second moments of what it reads, which `grams` measures on training batches of every
`Projection` that is met outside of loops; others are rounded as they are. Called by
`compression.py`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from scaling import families
from scaling.config import RunConfig
from scaling.models import rounding
from scaling.models.layers import Projection
from scaling.optim import Leaf, subtree
from scaling.transforms import transform

_DAMPING = 0.01  # of the moments' mean diagonal, added to it


def corrected(
    w: np.ndarray, scale: np.ndarray, bits: int, leaf: Leaf, moments_RxIxI: np.ndarray
) -> np.ndarray:
    """Whole numbers int8 of the shape of `w`; weights that are zero stay zero.

    Args:
      scale: of the shape of `w` with 1 along the inputs.
      moments_RxIxI: of the inputs, of each of the R matrices of a stack.
    """
    axes = _axes(w, leaf)
    turned, scales = w.transpose(axes), scale.transpose(axes)
    count, inputs = len(moments_RxIxI), leaf.fan_in
    flat_RxIxO = turned.reshape(count, inputs, -1)
    scales_RxO = scales.reshape(count, -1)
    codes = [
        _of_matrix(*each, bits) for each in zip(flat_RxIxO, scales_RxO, moments_RxIxI, strict=True)
    ]
    back = tuple(axes.index(i) for i in range(w.ndim))
    return np.stack(codes).reshape(turned.shape).transpose(back)


def _axes(w: np.ndarray, leaf: Leaf) -> tuple[int, ...]:
    """Those of stacks, of inputs, of outputs."""
    rest = tuple(i for i in range(w.ndim) if i not in (*leaf.ins, *leaf.outs))
    return (*rest, *leaf.ins, *leaf.outs)


def _of_matrix(
    w_IxO: np.ndarray, scale_O: np.ndarray, moments_IxI: np.ndarray, bits: int
) -> np.ndarray:
    w, kept = w_IxO.astype(np.float64), w_IxO != 0
    moments = moments_IxI.astype(np.float64)
    mean = np.trace(moments) / len(moments)
    moments += np.eye(len(moments)) * (_DAMPING * mean if mean > 0 else 1.0)
    # Upper, of the inverse: row i says how the later inputs make up for input i.
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    codes, most = np.zeros(w.shape, np.int8), rounding.most(bits)
    for i in range(len(w)):
        codes[i] = np.clip(np.round(w[i] / scale_O), -most, most) * kept[i]
        lost = (w[i] - codes[i] * scale_O) / upper[i, i]
        w[i + 1 :] -= upper[i, i + 1 :, None] * lost[None]
    return codes


def grams(
    config: RunConfig, params: Mapping[str, np.ndarray], batches: Iterable[Any]
) -> dict[str, np.ndarray]:
    """Path -> sums of products of the inputs [R, I, I], of each matrix of a stack.

    The model is called as it stands, outside of any compiled program, and a call's matrix is known
    by its numbers: modules have other names where layers lie stacked.
    """
    leaves, places = transform.leaves(config), {}
    sums: dict[str, np.ndarray] = {}
    for path, w in params.items():
        leaf = leaves[path]
        rest = w.ndim - len(leaf.ins) - len(leaf.outs)
        if not leaf.ins or leaf.ins != tuple(range(rest, rest + len(leaf.ins))):
            continue
        stack = math.prod(w.shape[:rest])
        for i, one in enumerate(w.reshape(stack, *w.shape[rest:])):
            places[one.tobytes()] = path, i
        sums[path] = np.zeros((stack, leaf.fan_in, leaf.fan_in))
    met: dict[str, set[int]] = {path: set() for path in sums}

    def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Projection) and context.method_name == "__call__":
            w, x = nn.unbox(context.module.get_variable("params", "w")), args[0]
            if not isinstance(w, jax.core.Tracer) and not isinstance(x, jax.core.Tracer):
                path, i = places.get(np.asarray(w).tobytes(), ("", 0))
                if path:
                    flat = np.asarray(x, np.float64).reshape(-1, leaves[path].fan_in)
                    sums[path][i] += flat.T @ flat
                    met[path].add(i)
        return call(*args, **kwargs)

    model, tree = families.build(families.unrolled(config.model)), subtree.nested(dict(params))
    with nn.intercept_methods(look):
        for batch in batches:
            model.apply({"params": tree}, batch)
    return {path: total for path, total in sums.items() if len(met[path]) == len(total)}
