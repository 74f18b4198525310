"""Squared error: summed over targets, averaged over examples; by NumPy and under any split."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import choices
from scaling.errors import ConfigError
from scaling.metrics.finish import finish
from scaling.objectives.objective import Sum
from scaling.objectives.regression import OBJECTIVE, RegressionConfig

ROWS, TARGETS = 8, 3
RNG = np.random.default_rng(0)
OUT = jnp.asarray(RNG.normal(size=(ROWS, TARGETS)), jnp.float32)
WEIGHT = jnp.asarray([1, 0, 1, 1, 1, 0, 1, 1], jnp.float32)
BATCH = {
    "targets": OUT + jnp.asarray(0.5 * RNG.normal(size=(ROWS, TARGETS)), jnp.float32),
    "weight": WEIGHT,
}


class Fixed(nn.Module):
    """A model whose parameters are its outputs."""

    @nn.compact
    def __call__(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        shape = batch["targets"].shape
        return {"out": self.param("out", nn.initializers.zeros, shape, jnp.float32)}


def build():
    return choices.load(OBJECTIVE.rows)(RegressionConfig())


def loss(out, batch=BATCH):
    return build().loss(Fixed(), {"out": out}, batch, jax.random.key(0))


def numbers(out, batch=BATCH) -> dict[str, float]:
    """As an evaluation finishes them."""
    rows = {
        name: np.stack([s.total, s.count], axis=1) if isinstance(s, Sum) else np.asarray(s)
        for name, s in build().rows_of({"out": out}, batch).sums.items()
    }
    return finish(rows, OBJECTIVE.metrics)


def test_the_record_is_what_the_rows_give():
    rows = build().rows_of({"out": OUT}, BATCH)
    assert list(rows.sums) == list(OBJECTIVE.metrics) == ["loss", "r_squared"]
    for name, metric in OBJECTIVE.metrics.items():
        assert isinstance(rows.sums[name], Sum) == (metric.finish is None)


def test_numbers_are_their_definitions():
    used = np.asarray(WEIGHT) > 0
    out, targets = (np.asarray(x, np.float64)[used] for x in (OUT, BATCH["targets"]))
    error = np.sum((out - targets) ** 2, axis=1)
    found = numbers(OUT)
    assert found["loss"] == pytest.approx(error.mean(), rel=1e-5)
    assert found["loss_se"] == pytest.approx(np.std(error, ddof=1) / math.sqrt(6), rel=1e-4)
    around_mean = np.sum((targets - targets.mean(axis=0)) ** 2)
    assert found["r_squared"] == pytest.approx(1 - error.sum() / around_mean, rel=1e-5)
    assert found["r_squared_se"] > 0


def test_the_gradient_is_twice_the_error():
    gradient = jax.grad(lambda out: loss(out)[0])(OUT)
    wanted = 2 * (OUT - BATCH["targets"]) * WEIGHT[:, None]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6)


def test_explained_variance_is_1_if_right_and_0_for_the_mean():
    assert numbers(BATCH["targets"])["r_squared"] == 1.0
    mean_T = jnp.average(BATCH["targets"], axis=0, weights=WEIGHT)
    always = jnp.broadcast_to(mean_T, OUT.shape)
    assert numbers(always)["r_squared"] == pytest.approx(0, abs=1e-5)
    assert numbers(always + 10)["r_squared"] < 0


def test_targets_that_do_not_vary_leave_nothing_to_explain():
    found = numbers(OUT, BATCH | {"targets": jnp.ones((ROWS, TARGETS))})
    assert math.isnan(found["r_squared"])
    assert math.isnan(found["r_squared_se"])


def test_rows_without_weight_change_nothing_whatever_stands_in_them():
    lost, batch = OUT.at[1].set(jnp.nan), BATCH | {"targets": BATCH["targets"].at[5].set(jnp.inf)}
    assert numbers(lost, batch) == numbers(OUT)
    gradient = jax.grad(lambda out: loss(out, batch)[0])(lost)
    np.testing.assert_array_equal(gradient, jax.grad(lambda out: loss(out)[0])(OUT))
    assert not gradient[WEIGHT == 0].any()


def test_pieces_add_up_to_the_batch():
    whole, sums = loss(OUT)
    assert list(sums) == ["loss"]
    pieces = [
        loss(OUT[cut], {name: x[cut] for name, x in BATCH.items()})
        for cut in (slice(0, 2), slice(2, 3), slice(3, 8))
    ]
    np.testing.assert_allclose(sum(p[0] for p in pieces), whole, rtol=1e-6)
    assert sum(p[1]["loss"].count for p in pieces) == sums["loss"].count == 6


def test_outputs_that_are_not_as_many_as_the_targets_are_refused():
    """Of one output broadcasting would make a loss."""
    with pytest.raises(ConfigError, match="gives 1 numbers a row and the data have 3 targets"):
        build().rows_of({"out": OUT[:, :1]}, BATCH)
