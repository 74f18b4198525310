"""Arrays live from where they are made to their last use, unless they are computed in place."""

import jax
import jax.numpy as jnp
import pytest

from scaling.check.liveness import peak_bytes

SIZE = 64
X = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
ONE = 4 * SIZE * SIZE  # bytes


def peak(function, *args, **options):
    return peak_bytes(jax.make_jaxpr(function)(*args), **options)


def test_elementwise_chains_are_not_stored():
    assert peak(lambda x: jnp.exp(x * 2 + 1) - x, X) == 0
    assert peak(lambda x: jnp.tanh(x * 2) @ x, X) == ONE


def test_what_two_matmuls_meet_is_stored_until_the_second():
    def chain(x):
        a = jnp.exp(x)
        return jnp.dot(jnp.dot(a, x), a)  # a, and the first product

    assert peak(chain, X) == 2 * ONE


def test_the_first_operand_of_a_matmul_is_written_out_transposed():
    assert peak(lambda x: x @ x, X) == 0
    assert peak(lambda x: jnp.einsum("ka,kb->ab", x, x), X) == ONE


def test_a_reduction_computes_its_operand_and_nothing_before():
    def shared(x):
        a = x * 2.0
        return (a * x).sum(), a

    assert peak(lambda x: (x * x).sum(), X) < 0.1 * ONE
    # The product is the reduction's; what goes into the product is an array.
    assert peak(lambda x: ((x * 2.0) * x).sum(), X) == pytest.approx(ONE, rel=0.01)
    assert peak(shared, X) < 0.1 * ONE  # a result is not counted


def test_results_of_a_scan_lie_stacked_and_its_body_needs_once():
    def loop(x):
        def body(carry, _):
            return carry @ carry, jnp.sin(carry)

        return jax.lax.scan(body, x @ x, None, length=5)[1].sum()

    # What is carried before and after, its product inside, and all the sines.
    assert 6 * ONE < peak(loop, X) <= 8.1 * ONE


def test_remat_keeps_less_and_bfloat16_is_half_where_it_is_not_wide():
    def deep(x, wrap):
        for _ in range(6):
            x = wrap(lambda x: jnp.tanh(jnp.tanh(x @ x) @ x))(x)
        return x.astype(jnp.float32).sum()

    plain = jax.grad(lambda x: deep(x, lambda f: f))
    again = jax.grad(lambda x: deep(x, jax.checkpoint))
    assert peak(again, X) < 0.75 * peak(plain, X)
    half = jax.ShapeDtypeStruct(X.shape, jnp.bfloat16)
    assert peak(plain, half) < 0.6 * peak(plain, half, wide=True)
