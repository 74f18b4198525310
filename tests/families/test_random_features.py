"""Random features: what is drawn, what is trained, its size, and the loss that theory gives it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config.choices import load
from scaling.config.contracts import Facts
from scaling.costs.ledger import ledger
from scaling.data.kinds.vectors import VectorsConfig, examples, facts
from scaling.data.kinds.vectors.theory import expected
from scaling.devices import sharding
from scaling.errors import ConfigError
from scaling.families.random_features import FAMILY, RandomFeaturesConfig, resolve, size

ROOT = Path("/nowhere")  # nothing is read or written
FACTS = Facts("hash", 100, 10, {"features": 12, "targets": 3})
SMALL = resolve(RandomFeaturesConfig(width=8, readout="normal"), FACTS)


def batch_of(rows: int = 5) -> dict[str, jax.Array]:
    return {"features": jax.random.normal(jax.random.key(1), (rows, 12))}


def module(config: RandomFeaturesConfig) -> nn.Module:
    return load(FAMILY.module)(config)


def init(config: RandomFeaturesConfig) -> Any:
    return nn.unbox(module(config).init(jax.random.key(0), batch_of())["params"])


def apply(config: RandomFeaturesConfig, params: Any, batch: Any) -> dict[str, jax.Array]:
    return module(config).apply({"params": params}, batch)


def test_only_the_read_out_is_a_parameter():
    params = init(SMALL)
    assert jax.tree.map(jnp.shape, params) == {"readout": (8, 3)}
    counts = size(SMALL, None)
    assert counts.params == counts.params_non_embedding == counts.params_active == 24
    out = apply(SMALL, params, batch_of())
    assert out["out"].shape == (5, 3)
    assert out["features"].shape == (5, 8)
    np.testing.assert_allclose(out["out"], out["features"] @ params["readout"], atol=1e-5)


def test_the_features_are_drawn_from_their_seed_alone():
    batch, params = batch_of(), init(SMALL)
    ours = apply(SMALL, params, batch)["features"]
    np.testing.assert_array_equal(
        ours, apply(SMALL, jax.tree.map(jnp.zeros_like, params), batch)["features"]
    )
    other = apply(dataclasses.replace(SMALL, feature_seed=1), params, batch)["features"]
    assert np.abs(ours - other).min() > 0
    # A wider model has the features of a narrower one: one row order of one product.
    wide = dataclasses.replace(SMALL, width=20)
    np.testing.assert_allclose(apply(wide, init(wide), batch)["features"][:, :8], ours, atol=1e-5)


def test_the_features_are_unit_gaussians_of_the_input():
    config = dataclasses.replace(SMALL, width=4000)
    batch = batch_of(2)
    phi = np.asarray(apply(config, init(config), batch)["features"])
    x = np.asarray(batch["features"])
    # Covariance over draws is x x^T; standard errors of 4,000 draws, times 4.
    error = 4 * math.sqrt(2 / 4000) * np.sqrt(np.outer((x**2).sum(1), (x**2).sum(1)))
    assert (np.abs(phi @ phi.T / 4000 - x @ x.T) < error).all()


def test_relu_is_of_the_same_features():
    params, batch = init(SMALL), batch_of()
    linear = apply(SMALL, params, batch)["features"]
    relu = apply(dataclasses.replace(SMALL, activation="relu"), params, batch)["features"]
    np.testing.assert_array_equal(relu, np.maximum(linear, 0))


def test_where_training_starts():
    zero = dataclasses.replace(SMALL, readout="zero")
    assert not np.any(init(zero)["readout"])
    wide = dataclasses.replace(SMALL, width=2000)  # init_scale is the train state's to apply
    std = float(init(wide)["readout"].std())
    assert std == pytest.approx(1 / math.sqrt(2000), rel=4 / math.sqrt(2 * 6000))


def test_bfloat16_is_near_float32():
    params, batch = init(SMALL), batch_of()
    half = apply(dataclasses.replace(SMALL, dtype="bfloat16"), params, batch)
    assert half["features"].dtype == jnp.bfloat16
    assert half["out"].dtype == jnp.float32
    # Eight bits of mantissa in each factor of sums of 12 and 8 products.
    np.testing.assert_allclose(half["out"], apply(SMALL, params, batch)["out"], atol=0.05)


def test_the_closed_flops_are_those_of_the_program():
    def loss(params: Any, batch: Any) -> jax.Array:
        return jnp.sum(apply(SMALL, params, batch)["out"] ** 2)

    program = jax.value_and_grad(loss)
    assert ledger(program, init(SMALL), batch_of()).matmul == 5 * size(SMALL, None).flops_per_unit


def test_every_axis_has_a_rule():
    boxed = jax.eval_shape(module(SMALL).init, jax.random.key(0), batch_of())["params"]
    names = {name for axes, _ in sharding.named_shapes(boxed) for name in axes}
    assert names <= {name for name, _ in sharding.PARAMETER_RULES}


def test_sizes_come_from_the_data():
    assert (SMALL.inputs, SMALL.outputs) == (12, 3)
    with pytest.raises(ConfigError, match=r"model.inputs=11, but the data have features=12"):
        resolve(RandomFeaturesConfig(inputs=11), FACTS)
    with pytest.raises(ConfigError, match=r"needs data with features; .* data.kind=vectors"):
        resolve(RandomFeaturesConfig(), Facts("hash", 1, 1, {"vocab": 257}))
    assert FAMILY.scaled(SMALL, 64, 1) == {"model.width": 64}
    with pytest.raises(ConfigError, match=r"model.depth=2"):
        FAMILY.scaled(SMALL, 64, 2)


@pytest.mark.parametrize(("width", "count"), [(16, 60), (60, 16)])
def test_least_squares_on_the_features_has_the_loss_of_the_theory(width: int, count: int):
    """Data, network and theory together: the read-out of least norm, on drawn tasks."""
    data = VectorsConfig(
        features=120, targets=200, alpha=1.0, noise=0.2, examples=count, validation_examples=400
    )
    losses = []
    for seed in range(12):
        task = dataclasses.replace(data, task_seed=seed)
        config = RandomFeaturesConfig(width=width, feature_seed=seed)
        config = resolve(config, facts(task, task, ROOT))
        train, test = (
            examples(task, task, split, ROOT).take(np.arange(rows))
            for split, rows in (("train", count), ("validation", 400))
        )
        run = module(config).apply  # not compiled as one: the seed would be a constant in it
        start = {"params": {"readout": jnp.zeros((width, 200))}}
        phi = np.asarray(run(start, train)["features"], np.float64)
        w = np.linalg.lstsq(phi, train["targets"].astype(np.float64), rcond=None)[0]
        out = run({"params": {"readout": jnp.asarray(w, jnp.float32)}}, test)["out"]
        losses.append(float(np.mean((out - test["targets"]) ** 2)))
    variances = examples(data, data, "train", ROOT).task.variances
    theory = expected(variances, width, count, noise=0.2).loss
    error = np.std(losses) / math.sqrt(len(losses))
    # Sizes are finite: T / (T - N - 1), not T / (T - N).
    assert abs(np.mean(losses) - theory) < 4 * error + 2 / abs(width - count) * theory
    assert error < 0.1 * theory  # the comparison says something
