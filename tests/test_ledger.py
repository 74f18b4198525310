"""The ledger enters every kind of call, and multiplies what is repeated."""

import jax
import jax.numpy as jnp
import pytest

from scaling.costs.ledger import ledger

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
W = jax.ShapeDtypeStruct((8, 8), jnp.float32)
MATMUL = 2 * 4 * 8 * 8


def step(x, w):
    return jnp.tanh(x @ w)


def test_classes_of_one_layer():
    count = ledger(lambda x, w: (step(x, w) + 1.0).sum(), X, W)
    assert (count.matmul, count.transcendental, count.elementwise) == (MATMUL, 32, 32)
    assert (count.reduction, count.convolution, count.open_loops) == (32, 0, 0)
    assert count.flops == MATMUL + 64


def test_scan_is_multiplied_also_inside_another():
    def inner(x, w):
        return jax.lax.scan(lambda x, _: (step(x, w), None), x, None, length=3)[0]

    def outer(x, w):
        return jax.lax.scan(lambda x, _: (inner(x, w), None), x, None, length=5)[0]

    assert ledger(outer, X, W).matmul == 15 * MATMUL
    assert ledger(outer, X, W).transcendental == 15 * 32


def test_cond_counts_its_dearer_branch():
    def choose(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: step(step(x, w), w), lambda: x)

    assert ledger(choose, X, W).matmul == 2 * MATMUL


def test_while_is_counted_once_and_says_so():
    def loop(x, w):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: step(x, w), x)

    count = ledger(loop, X, W)
    assert (count.matmul, count.open_loops) == (MATMUL, 1)


@jax.custom_vjp
def doubled(x, w):
    return step(x, w)


doubled.defvjp(lambda x, w: (step(x, w), (x, w)), lambda kept, d: (d @ kept[1], kept[0].T @ d))


@pytest.mark.parametrize(
    ("wrapped", "backward"),
    [
        (jax.jit(step), 2),
        (doubled, 2),
        (jax.checkpoint(step), 3),  # the forward matmul once more, for tanh's derivative
    ],
)
def test_calls_are_entered_and_backward_is_counted(wrapped, backward):
    assert ledger(wrapped, X, W).matmul == MATMUL
    gradient = jax.grad(lambda x, w: wrapped(x, w).sum(), argnums=(0, 1))
    assert ledger(gradient, X, W).matmul == (1 + backward) * MATMUL


def test_shard_map_counts_all_devices():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = jax.P("data"), jax.P()
    split = jax.shard_map(step, mesh=mesh, in_specs=(rows, whole), out_specs=rows)
    assert ledger(split, X, W).matmul == MATMUL


def test_shard_map_over_some_axes_counts_what_the_others_share():
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    rows, whole = jax.P("data"), jax.P()
    split = jax.shard_map(
        step, mesh=mesh, in_specs=(rows, whole), out_specs=rows, axis_names={"data"}
    )
    assert ledger(split, X, W).matmul == MATMUL


def test_convolution_is_the_matmul_it_stands_for():
    image = jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)

    def convolve(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=layout)

    assert ledger(convolve, image, kernel).convolution == 2 * (2 * 7 * 7) * (3 * 3 * 3) * 5


def test_a_ragged_product_counts_each_row_once_forward_and_backward():
    rows, groups = jax.ShapeDtypeStruct((12, 8), jnp.float32), 3
    w = jax.ShapeDtypeStruct((groups, 8, 5), jnp.float32)
    sizes = jnp.array([2, 10, 0])

    def product(x, w):
        return jax.lax.ragged_dot(x, w, sizes)

    once = 2 * 12 * 8 * 5
    assert ledger(product, rows, w).matmul == once
    gradient = jax.grad(lambda x, w: (product(x, w) ** 2).sum(), argnums=(0, 1))
    assert ledger(gradient, rows, w).matmul == 3 * once


def test_of_forms_for_several_platforms_the_first_is_counted():
    def choose(x, w):
        return jax.lax.platform_dependent(x, w, tpu=step, default=lambda x, w: step(step(x, w), w))

    assert ledger(choose, X, W).matmul == MATMUL


def test_a_sort_is_its_comparisons():
    assert ledger(jnp.sort, jax.ShapeDtypeStruct((64,), jnp.float32)).elementwise == 64 * 6


def test_combiners_are_no_programs():
    """A scatter's addition is one an element, not its jaxpr's one in all."""
    index = jax.ShapeDtypeStruct((6,), jnp.int32)
    rows = jax.ShapeDtypeStruct((6, 8), jnp.float32)
    count = ledger(lambda x, i, r: x.at[i].add(r, mode="promise_in_bounds"), X, index, rows)
    assert count.elementwise >= 48
