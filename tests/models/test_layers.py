"""A norm that norms, and weights of the size that is promised."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.models.layers import RMSNorm, truncated_normal


def test_norm_gives_unit_mean_square_whatever_the_scale_of_its_input():
    norm = RMSNorm(eps=1e-6, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (3, 5, 64)) * jnp.logspace(-1, 4, 5)[None, :, None]
    y, _ = norm.init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(jnp.mean(y**2, axis=-1), 1.0, rtol=1e-3)  # eps against 1e-2


def test_truncated_normal_has_the_std_that_is_asked_for():
    draw = truncated_normal(0.5)(jax.random.key(0), (100_000,), jnp.float32)
    assert abs(float(draw.std()) - 0.5) < 0.005  # 4 standard errors
    assert float(jnp.abs(draw).max()) < 2 * 0.5 / 0.879
