"""Attention against its definition, and weights of the size that is promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.attention import attention, keys_per_query, query_blocks
from scaling.models.layers import RMSNorm, truncated_normal


def by_definition(q, k, v, q_segments, k_segments):
    """softmax(q k / sqrt(K)) v in float64, one head and one query at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, heads, length, channels = q.shape
    shared = heads // k.shape[1]
    out = np.zeros(q.shape)
    for b, h, i in np.ndindex(batch, heads, length):
        seen = [j for j in range(i + 1) if q_segments[b, i] == k_segments[b, j]]
        scores = k[b, h // shared][seen] @ q[b, h, i] / np.sqrt(channels)
        weights = np.exp(scores - scores.max())
        out[b, h, i] = weights @ v[b, h // shared][seen] / weights.sum()
    return out


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("blocks", [1, 4])
def test_attention_is_its_definition(kv_heads, blocks):
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (2, 4, 24, 6)) * 3
    k, v = (jax.random.normal(key, (2, kv_heads, 24, 6)) * 3 for key in keys[1:])
    segments = jnp.array([[1] * 24, [1] * 10 + [2] * 14], jnp.int32)
    actual = jax.jit(attention, static_argnames="blocks")(
        q, k, v, segments, segments, blocks=blocks
    )
    wanted = by_definition(q, k, v, segments, segments)
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_large_scores_do_not_overflow():
    q = jnp.full((1, 1, 4, 2), 1e10)
    segments = jnp.ones((1, 4), jnp.int32)
    value = jnp.arange(8.0).reshape(1, 1, 4, 2)
    out, gradient = jax.value_and_grad(lambda q: attention(q, q, value, segments, segments).sum())(
        q
    )
    assert jnp.isfinite(out)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("length", [1, 63, 64, 100, 128, 192, 256, 1024, 2048, 2050])
def test_query_blocks_divide_the_length_and_are_not_small(length):
    blocks = query_blocks(length)
    assert length % blocks == 0
    assert blocks == 1 or length // blocks >= 64
    assert length / 2 < keys_per_query(length) <= length


def test_norm_gives_unit_mean_square_whatever_the_scale_of_its_input():
    norm = RMSNorm(eps=1e-6, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (3, 5, 64)) * jnp.logspace(-1, 4, 5)[None, :, None]
    y, _ = norm.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-3)  # eps against 1e-2


def test_truncated_normal_has_the_std_that_is_asked_for():
    draw = truncated_normal(0.5)(jax.random.key(0), (100_000,), jnp.float32)
    assert abs(float(draw.std()) - 0.5) < 0.005  # 4 standard errors
    assert float(jnp.abs(draw).max()) < 2 * 0.5 / 0.879
