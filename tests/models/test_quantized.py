"""Matmuls of 8 bits are near the exact ones, differentiable, really of 8 bits, and train alike."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import batch_of, init, logits_of, small, tokens_of

from scaling import families
from scaling.config import RunConfig, TrainConfig
from scaling.costs import counts
from scaling.data.kinds.text import TextConfig
from scaling.errors import ConfigError
from scaling.models.quantized import einsum

SPEC = "BLD,DHK->BHLK"
KEYS = jax.random.split(jax.random.key(0), 3)
X = jax.random.normal(KEYS[0], (2, 8, 64)) * jnp.geomspace(1e-3, 1e3, 8)[None, :, None]
W = jax.random.normal(KEYS[1], (64, 2, 16))
G = jax.random.normal(KEYS[2], (2, 2, 8, 16))

# Rounding errors of one product, as a share of the row's norm: a step of int8 is 1/127 of the
# largest of 64 entries, e4m3 keeps 4 binary digits, e5m2 (gradients) 3.
ERROR = {"int8": 0.02, "fp8": 0.06}


@pytest.mark.parametrize("matmul", ERROR)
def test_products_and_gradients_are_near_the_exact_ones(matmul):
    def both(product):
        y, pull = jax.vjp(product, X, W)
        return y, *pull(G)

    exact = both(lambda x, w: jnp.einsum(SPEC, x, w))
    rounded = jax.jit(lambda: both(lambda x, w: einsum(SPEC, x, w, matmul)))()
    # Rows of very different size: each has a scale of its own.
    of_row = [
        np.linalg.norm(a - b, axis=-1).max() / np.linalg.norm(b, axis=-1).max()
        for a, b in zip(np.moveaxis(rounded[0], 2, 0), np.moveaxis(exact[0], 2, 0), strict=True)
    ]
    assert 1e-4 < max(of_row) < ERROR[matmul]
    of_x, of_w = (
        np.linalg.norm(a - b) / np.linalg.norm(b)
        for a, b in zip(rounded[1:], exact[1:], strict=True)
    )
    assert 1e-4 < of_x < 2 * ERROR[matmul]
    assert of_w < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("matmul", ERROR)
def test_zeros_and_bfloat16_give_finite_results_and_a_float32_gradient(matmul):
    x, w = jnp.zeros((1, 2, 4), jnp.bfloat16), jnp.ones((4, 1, 2))
    y, pull = jax.vjp(lambda x, w: einsum(SPEC, x, w, matmul), x, w)
    leaves = (y, *pull(jnp.zeros_like(y)))
    assert [leaf.dtype for leaf in leaves] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    assert all((leaf == 0).all() for leaf in leaves)


def run(matmul):
    config = small(matmul=matmul, dtype="bfloat16")
    return RunConfig(model=config, data=TextConfig(seq_len=16), train=TrainConfig(batch_size=2))


@pytest.mark.parametrize(
    ("matmul", "kind"), [("int8", "i8"), pytest.param("fp8", "f8E4M3FN", marks=pytest.mark.slow)]
)
def test_every_projection_is_multiplied_in_8_bits(matmul, kind):
    """Seven of a block, forward and for the gradient of their input; those of the weights, the
    attention and the head are not."""
    config = run(matmul)
    shapes = counts.params_shapes(config), counts.batch_shapes(config)
    text = jax.jit(counts.gradient(config)).lower(*shapes).as_text()
    products = re.findall(r"stablehlo.dot_general .*: \(tensor<(.*?)>, tensor<(.*?)>\)", text)
    of_8_bits = [pair for pair in products if all("8" in s.split("x")[-1][:2] for s in pair)]
    assert len(of_8_bits) == 14
    assert sum(s.endswith(f"x{kind}") for pair in of_8_bits for s in pair) >= 21
    # As many FLOPs as without: the rounding adds none to the matmuls.
    assert counts.train_ledger(config).matmul == counts.train_ledger(run("default")).matmul


def test_the_compiled_product_of_int8_is_one():
    text = jax.jit(lambda x, w: einsum(SPEC, x, w, "int8")).lower(X, W).compile().as_text()
    assert re.search(r"= s32\[[\d,]+\]\S* dot\(", text)


@pytest.mark.slow
@pytest.mark.parametrize("matmul", ["int8", pytest.param("fp8", marks=pytest.mark.slow)])
def test_a_model_gives_nearly_the_same_logits(matmul):
    params, batch = init(small()), batch_of(tokens_of(1))
    wanted = logits_of(small())(params, batch)
    actual = logits_of(small(matmul=matmul))(params, batch)
    error = jnp.sqrt(jnp.mean((actual - wanted) ** 2)) / wanted.std()
    assert 1e-4 < error < 3 * ERROR[matmul]


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    model = families.build(small(matmul="int8"))
    with pytest.raises(ConfigError, match=r"needs the package qwix: pip install"):
        jax.eval_shape(model.init, jax.random.key(0), batch_of(tokens_of(1)))
