"""Convolution and group norm against flax's own with the same parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.convolution import Conv, GroupNorm

# The same sums in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def image(channels: int = 6, dtype: Any = "float32") -> jax.Array:
    return jax.random.normal(jax.random.key(0), (2, 7, 6, channels), dtype)


def init(module: nn.Module, x: jax.Array) -> Any:
    return jax.jit(module.init)(jax.random.key(1), x)["params"]


@pytest.mark.parametrize(
    ("fields", "flax"),
    [
        ({}, {}),
        ({"kernel": (1, 1), "stride": 2}, {"strides": 2}),
        ({"kernel": (5, 2), "padding": "VALID"}, {"padding": "VALID"}),
        ({"stride": 2, "bias": True}, {"strides": 2}),
        ({"dilation": 2}, {"kernel_dilation": 2}),
        ({"groups": 3}, {"feature_group_count": 3}),
        ({"groups": 6, "stride": 3}, {"feature_group_count": 6, "strides": 3}),
    ],
)
def test_a_convolution_is_flax_own(fields: dict[str, Any], flax: dict[str, Any]) -> None:
    """Value and gradients."""
    conv, x = Conv(12, **fields), image()
    other = nn.Conv(12, fields.get("kernel", (3, 3)), use_bias=conv.bias, **flax)
    params = nn.unbox(init(conv, x))
    params = jax.tree.map(lambda p: p + 0.1, params)  # so that a bias shows

    def ours(params: Any, x: Any) -> Any:
        y = conv.apply({"params": params}, x)
        return (jnp.sin(y)).sum(), y

    def flaxs(params: Any, x: Any) -> Any:
        renamed = {{"w": "kernel"}.get(name, name): p for name, p in params.items()}
        y = other.apply({"params": renamed}, x)
        return (jnp.sin(y)).sum(), y

    one, two = (jax.jit(jax.grad(f, (0, 1), has_aux=True))(params, x) for f in (ours, flaxs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), one, two)


def test_a_kernel_starts_so_that_variance_stays_and_has_its_axes() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 64))
    conv = Conv(256, padding="VALID", init_scale=0.5)
    boxed = init(conv, x)
    assert boxed["w"].names == ("kernel_height", "kernel_width", "embed", "mlp")
    w = boxed["w"].value
    assert w.shape == (3, 3, 64, 256)
    # 147,456 numbers: their standard deviation is known to 0.2 %
    np.testing.assert_allclose(w.std() * np.sqrt(9 * 64), 0.5, rtol=0.01)
    y = conv.apply({"params": nn.unbox(boxed)}, x)
    np.testing.assert_allclose(y.std(), 0.5, rtol=0.03)
    grouped = init(Conv(64, groups=64), x)["w"]
    assert grouped.value.shape == (3, 3, 1, 64)
    assert grouped.names == ("kernel_height", "kernel_width", "kernel_inputs", "mlp")


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 channels to 8 cannot be cut into 4 groups"):
        init(Conv(8, groups=4), image())
    with pytest.raises(ValueError, match="6 channels cannot be cut into groups of 4"):
        init(GroupNorm(4, "float32"), image())


@pytest.mark.parametrize("group", [1, 2, 6])
def test_a_group_norm_is_flax_own(group: int) -> None:
    x, norm = 3 * image() + 1, GroupNorm(group, "float32")
    other = nn.GroupNorm(num_groups=None, group_size=group, epsilon=norm.eps)
    names = {name: leaf.names for name, leaf in init(norm, x).items()}
    assert names == {"scale": ("norm",), "bias": ("norm",)}
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=6), jnp.float32) for name in names}

    def f(module: nn.Module) -> Any:
        def loss(params: Any, x: Any) -> Any:
            y = module.apply({"params": params}, x)
            return (jnp.sin(y)).sum(), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), f(norm), f(other)
    )


def test_the_norms_statistics_are_float32_in_every_dtype() -> None:
    """Values near 100 that differ by 1: in bfloat16 their mean square would drown it."""
    x = (100 + image()).astype(jnp.bfloat16)
    params = nn.unbox(init(GroupNorm(3, "float32"), x))
    low, high = (GroupNorm(3, d).apply({"params": params}, x) for d in ("bfloat16", "float32"))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, high.astype(jnp.bfloat16))
    np.testing.assert_allclose(np.asarray(high).std(), 1, rtol=1e-3)


def test_bfloat16_is_near_float32() -> None:
    x = image()
    params = nn.unbox(init(Conv(12), x))
    low, high = (Conv(12, dtype=d).apply({"params": params}, x) for d in ("bfloat16", "float32"))
    assert low.dtype == jnp.bfloat16
    # Eight bits of mantissa; values of about 1.
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.05)
