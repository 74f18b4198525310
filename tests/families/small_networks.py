"""What the tests of families of images and vectors share: parameters, batches, comparisons."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from scaling.config.choices import load
from scaling.config.contracts import Facts

# The same sums in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def facts(**sizes: int) -> Facts:
    return Facts("", 1, 1, sizes)


def module_of(family: Any, config: Any) -> nn.Module:
    return load(family.module)(config)


@functools.cache
def boxed(family: Any, config: Any, shape: tuple[int, ...]) -> Any:
    """Parameters in linen's boxes, for images (or vectors) of that shape."""
    init = module_of(family, config).init
    return jax.jit(init)(jax.random.key(0), batch_of(jnp.zeros((1, *shape))))["params"]


def batch_of(x: Any) -> dict[str, Any]:
    return {"image" if x.ndim == 4 else "features": x}


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def close_trees(one: Any, other: Any, **tolerance: float) -> None:
    check = functools.partial(np.testing.assert_allclose, **(tolerance or CLOSE))
    jax.tree.map(check, one, other)


def loss_and_gradient(family: Any, config: Any) -> Any:
    """(params, x) -> (loss, gradients); the loss is of no use but depends on every output."""

    def loss(params: Any, x: Any) -> Any:
        out = module_of(family, config).apply({"params": params}, batch_of(x))["out"]
        weight = jnp.linspace(-1, 1, out.size).reshape(out.shape)
        return (out * weight).sum() + 0.1 * (out**2).sum()

    return jax.value_and_grad(loss)


def relative(one: Any, other: Any) -> float:
    """Distance of two trees over the length of the first."""
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (one, other))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def check_axes(tree: Any) -> None:
    for leaf in jax.tree.leaves(tree, is_leaf=lambda p: isinstance(p, nn.LogicallyPartitioned)):
        assert isinstance(leaf, nn.LogicallyPartitioned)
        assert len(leaf.names) == leaf.value.ndim == len(set(leaf.names))
