"""Training with weights on few levels: what is used lies on them, what is learned does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import begun

from scaling import data
from scaling.config import choices, programs
from scaling.errors import ConfigError
from scaling.models import rounding
from scaling.optim import subtree
from scaling.train.step import gradients
from scaling.transforms import transform

W = np.random.default_rng(0).normal(size=(2, 12, 5)).astype(np.float32)
INS = (1,)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_error_is_half_a_level_and_there_are_no_more_levels_than_said(bits):
    scale = rounding.scale(W, INS, bits)
    codes = np.asarray(rounding.codes(W, scale, bits))
    assert scale.shape == (2, 1, 5)
    assert set(np.unique(codes)) <= set(range(-rounding.most(bits), rounding.most(bits) + 1))
    apart = np.abs(rounding.values(codes, scale) - W)
    inside = np.abs(W) <= rounding.most(bits) * np.asarray(scale)
    # Half a level, and a rounding error of float32; of three levels larger weights are cut off.
    assert (apart <= np.asarray(scale) * (0.5 + 1e-5))[inside].all()
    if bits != rounding.TERNARY:
        # The largest is at the last level, to a rounding error of float32.
        assert (np.abs(W) <= rounding.most(bits) * np.asarray(scale) * (1 + 1e-6)).all()


def test_a_channel_of_zeros_stays_zero():
    w = W.copy()
    w[0, :, 2] = 0
    for bits in (2, 8):
        assert not np.asarray(rounding.straight_through(w, INS, bits))[0, :, 2].any()


@pytest.mark.parametrize("bits", [2, 4])
def test_the_gradient_is_that_of_the_identity(bits):
    def loss(w, used):
        return jnp.sum(jnp.sin(used(w)))

    used = jax.jit(lambda w: rounding.straight_through(w, INS, bits))
    scale = rounding.scale(W, INS, bits)
    on_levels = rounding.values(rounding.codes(W, scale, bits), scale)
    np.testing.assert_array_equal(used(W), on_levels)
    found = jax.grad(loss)(W, used)
    np.testing.assert_array_equal(found, jax.grad(loss)(np.asarray(on_levels), lambda w: w))


@pytest.mark.slow
def test_of_a_model_the_matrices_are_rounded_and_have_the_gradient_at_what_is_used(tiny):
    plain, config = tiny(), tiny({"transform.name": "qat", "transform.bits": 3})
    pieces, _, state = begun(config)
    used = transform.used(config, state.params)
    for path, w in subtree.leaves(jax.device_get(used)):
        leaf = transform.leaves(config)[path]
        if leaf.ins:
            levels = np.unique(np.round(w / np.asarray(rounding.scale(w, leaf.ins, 3))))
            assert len(levels) <= 7, path
    batch, hparams, key = data.train_batches(config).batch(0), programs.hparams(config), 0
    of = [
        jax.jit(lambda p, one=one: gradients(one, 1, p, batch, hparams, jax.random.key(key))[0])(p)
        for one, p in ((pieces, state.params), (begun(plain)[0], used))
    ]
    for (path, one), (_, other) in zip(*map(subtree.leaves, jax.device_get(of)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=path)  # fused anew


def test_bits_are_named(tiny):
    config = tiny({"transform.name": "qat", "transform.bits": 4})
    record = choices.transform(config.transform)
    assert (record.bits(config.transform), record.label(config.transform)) == (4.0, "4 bits")
    with pytest.raises(ConfigError, match=r"transform\.bits=9 must lie between 2 and 8"):
        tiny({"transform.name": "qat", "transform.bits": 9})
    with pytest.raises(ConfigError, match=r"'quary' means none"):
        begun(tiny({"transform.name": "qat", "transform.modules": "quary"}))
