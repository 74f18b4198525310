"""The multilayer perceptron: its forms, its size, its start, what it reads."""

import dataclasses
import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import (
    CLOSE,
    batch_of,
    boxed,
    check_axes,
    close_trees,
    count,
    facts,
    loss_and_gradient,
    module_of,
    relative,
)

from scaling.costs.ledger import ledger
from scaling.errors import ConfigError
from scaling.families.mlp import FAMILY, MLPConfig

SMALL = MLPConfig(width=8, depth=3, inputs=6, outputs=4)


def config(**fields: Any) -> MLPConfig:
    return dataclasses.replace(SMALL, **fields)


def params_of(config: MLPConfig) -> Any:
    return nn.unbox(boxed(FAMILY, config, (config.inputs,)))


def vectors(rows: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 6)).astype(np.float32)


def by_hand(config: MLPConfig, params: Any, x: np.ndarray) -> np.ndarray:
    """In NumPy, layer after layer."""
    x = x.astype(np.float64)
    for layer in range(config.depth):
        of = params["hidden"] if layer else jax.tree.map(lambda p: p[None], params["first"])
        of = jax.tree.map(np.asarray, jax.tree.map(operator.itemgetter(max(layer - 1, 0)), of))
        h = x @ of["linear"]["matrix"]["w"] + of["linear"]["bias"]
        if config.norm == "layer":
            h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        if config.norm == "rms":
            h = h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6)
        if config.norm != "none":
            h = h * of["norm"]["scale"] + of["norm"].get("bias", 0)
        h = np.tanh(h) if config.activation == "tanh" else np.maximum(h, 0)
        x = x + h if layer and config.residual else h
    return x @ np.asarray(params["head"]["matrix"]["w"]) + np.asarray(params["head"]["bias"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm": "layer", "residual": True},
        {"norm": "rms", "activation": "tanh"},
        {"depth": 1, "residual": True},
    ],
)
def test_it_is_what_it_says(fields: dict[str, Any]) -> None:
    one = config(**fields)
    rng = np.random.default_rng(1)  # so that norms and biases show
    params = jax.tree.map(
        lambda p: p + rng.normal(size=p.shape).astype(np.float32) / 4, params_of(one)
    )
    out = module_of(FAMILY, one).apply({"params": params}, batch_of(vectors()))
    np.testing.assert_allclose(out["out"], by_hand(one, params, vectors()), rtol=1e-4, atol=1e-4)
    head = params["head"]
    again = out["features"] @ head["matrix"]["w"] + head["bias"][None]
    np.testing.assert_allclose(again, out["out"], **CLOSE)


def test_an_image_is_a_vector() -> None:
    one = config(norm="layer")
    image = vectors().reshape(5, 1, 2, 3)
    outs = [
        module_of(FAMILY, one).apply({"params": params_of(one)}, batch_of(x))["out"]
        for x in (vectors(), image)
    ]
    np.testing.assert_array_equal(*outs)


def test_every_form_computes_the_same() -> None:
    params = params_of(SMALL)
    expected = jax.jit(loss_and_gradient(FAMILY, SMALL))(params, vectors())
    for fields in ({"scan_layers": False}, {"remat": "full"}):
        other = config(**fields)
        close_trees(params_of(other), params)
        close_trees(jax.jit(loss_and_gradient(FAMILY, other))(params, vectors()), expected)


def test_bfloat16_is_near_float32() -> None:
    params = params_of(SMALL)
    (_, one), (_, other) = (
        jax.jit(loss_and_gradient(FAMILY, config(dtype=d)))(params, vectors())
        for d in ("float32", "bfloat16")
    )
    assert relative(one, other) < 0.05  # eight bits of mantissa
    out = module_of(FAMILY, config(dtype="bfloat16")).apply({"params": params}, batch_of(vectors()))
    assert out["out"].dtype == jnp.float32
    assert out["features"].dtype == jnp.bfloat16


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_layers_keep_the_size_of_what_they_read(activation: str) -> None:
    """A ReLU's mean square stays (by 0.1 a layer of 512 units, up or down, by chance); without its
    gain it would be 1/32. Of the others less than half is lost in a layer.
    """
    wide = config(width=512, depth=5, inputs=256, activation=activation)
    x = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    out = module_of(FAMILY, wide).apply({"params": params_of(wide)}, batch_of(x))
    square = float(np.mean(np.square(out["features"])))
    least, most = (0.5, 1.5) if activation == "relu" else (0.5**5, 2.0)
    assert least < square < most


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_closed_size_is_what_the_program_counts(norm: str, depth: int) -> None:
    one = config(norm=norm, depth=depth)
    size = FAMILY.size(one, None)
    assert size.params == count(params_of(one))
    counted = ledger(loss_and_gradient(FAMILY, one), params_of(one), vectors(7))
    assert counted.matmul == size.flops_per_unit * 7


def test_every_parameter_has_logical_axes() -> None:
    tree = boxed(FAMILY, config(norm="layer"), (6,))
    check_axes(tree)
    assert tree["first"]["linear"]["matrix"]["w"].names == ("inputs", "mlp")
    assert tree["hidden"]["linear"]["matrix"]["w"].names == ("layers", "embed", "mlp")
    assert tree["head"]["matrix"]["w"].names == ("embed", "outputs")


def test_inputs_and_outputs_come_from_the_data() -> None:
    def resolved(one: MLPConfig, **sizes: int) -> tuple[int | None, int | None]:
        r = FAMILY.resolve(one, facts(**sizes))
        assert FAMILY.resolve(r, facts(**sizes)) == r
        return r.inputs, r.outputs

    one = MLPConfig()
    assert resolved(one, features=5, targets=2) == (5, 2)
    assert resolved(one, height=4, image_width=3, channels=2, classes=10) == (24, 10)
    assert resolved(MLPConfig(outputs=3), features=5, targets=2) == (5, 3)
    with pytest.raises(ConfigError, match=r"model\.inputs=4, but an example has 5 numbers"):
        FAMILY.resolve(MLPConfig(inputs=4), facts(features=5, targets=2))
    with pytest.raises(ConfigError, match=r"reads images or vectors; set data\.kind"):
        FAMILY.resolve(one, facts(vocab=5))
    with pytest.raises(ConfigError, match=r"model\.outputs: the data have no classes"):
        FAMILY.resolve(one, facts(features=5))
