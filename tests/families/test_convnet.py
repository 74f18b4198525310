"""Convolutional networks: published counts, tables and what they say, blocks, compound scaling."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import (
    batch_of,
    boxed,
    check_axes,
    close_trees,
    count,
    facts,
    loss_and_gradient,
    module_of,
)

from scaling.config import MeshConfig, base_config, from_dict, override
from scaling.costs.ledger import ledger
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.families.convnet import FAMILY, ConvNetConfig, table
from scaling.families.convnet.compound import Compound
from scaling.families.convnet.published import EFFICIENTNETS, PUBLISHED, efficientnet

SHAPE = (8, 6, 2)
FACTS = facts(height=8, image_width=6, channels=2, classes=3)
BLOCKS = ("plain", "dense", "inception", "inverted", "mbconv", "shuffle", "convnext")


def config(**fields: Any) -> ConvNetConfig:
    return FAMILY.resolve(dataclasses.replace(ConvNetConfig(width=4), **fields), FACTS)


def params_of(one: ConvNetConfig) -> Any:
    return nn.unbox(boxed(FAMILY, one, SHAPE))


def images(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, *SHAPE)).astype(np.float32)


# ---- published sizes


def multiply_adds(jaxpr: Any) -> int:
    """Of convolutions and matrices as papers count them: the products with the zeros around an
    image too, which the ledger leaves out.
    """
    found = 0
    for eqn in jaxpr.eqns:
        shapes = [v.aval.shape for v in (*eqn.outvars, *eqn.invars)]
        if eqn.primitive.name == "conv_general_dilated":
            outputs = shapes[2][eqn.params["dimension_numbers"].rhs_spec[0]]
            found += math.prod(shapes[0]) * math.prod(shapes[2]) // outputs
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            found += math.prod(shapes[0]) * math.prod(shapes[1][i] for i in contracted)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            found += multiply_adds(inner) if hasattr(inner, "eqns") else 0
    return found


# Parameters and billions of multiply-adds as torchvision lists them (0.20, its table of weights),
# of images of 224 x 224 and of the larger EfficientNets at their papers' sizes.
COUNTS = {
    "vgg11": (132_863_336, 7.61),
    "densenet121": (7_978_856, 2.83),
    "googlenet": (6_624_904, 1.5),
    "mobilenet_v2": (3_504_872, 0.3),
    "shufflenet_v2": (2_278_604, 0.14),
    "convnext_t": (28_589_128, 4.46),
    "efficientnet_b0": (5_288_548, 0.39),
    "b1": (7_794_184, 0.69),
    "b4": (19_341_616, 4.39),
    "b7": (66_347_960, 37.75),
}


QUICK = ("vgg11", "mobilenet_v2", "shufflenet_v2", "efficientnet_b0")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in COUNTS],
)
def test_published_counts(name: str) -> None:
    one = efficientnet(name) if name in EFFICIENTNETS else PUBLISHED[name]
    side = one.height or 224
    one = FAMILY.resolve(one, facts(height=side, image_width=side, channels=3, classes=1000))
    image = {"image": jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)}
    shapes = jax.eval_shape(module_of(FAMILY, one).init, jax.random.key(0), image)
    params, billions = COUNTS[name]
    assert count(shapes) == params
    found = multiply_adds(jax.make_jaxpr(module_of(FAMILY, one).apply)(shapes, image).jaxpr) / 1e9
    digits = len(str(billions).partition(".")[2])
    # ShuffleNet: 0.1449, which its authors' 146 M and torchvision's 0.14 lie on both sides of.
    assert abs(found - billions) <= 0.51 * 10**-digits or name == "shufflenet_v2"
    inside = ledger(module_of(FAMILY, one).apply, shapes, image)
    assert 0.9 * found < (inside.convolution + inside.matmul) / 2e9 < found


def test_every_published_network_is_counted() -> None:
    assert set(PUBLISHED) <= set(COUNTS)


# ---- tables


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_table_of_the_same_size_is_the_same(name: str) -> None:
    one = PUBLISHED[name]
    again = table.grown(one, 1.0, 1.0)
    if name == "shufflenet_v2":
        return  # its channels are no multiples of 8
    fields = {field.partition(".")[2]: value for field, value in again.items()}
    assert table.rows(dataclasses.replace(one, **fields)) == table.rows(one)


def test_width_and_depth_follow_the_table() -> None:
    stages = "plain c16, c16 n2, c24 n3 s2, plain c64 k1"
    one = config(stages=stages, width=32, depth=2, multiple=8)
    rows = table.rows(one)
    assert [row.channels for row in rows] == [(32,), (32,), (48,), (128,)]
    assert [row.repeats for row in rows] == [1, 4, 6, 1]
    assert [row.stride for row in rows] == [1, 1, 2, 1]
    assert [table.rounded(c, 8) for c in (4, 8, 11, 12, 19, 35.2)] == [8, 8, 16, 16, 24, 32]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stages": "plain c16, c16 x2"}, r"'x2' is no block and no number of a row"),
        ({"stages": "plain c16, dens c16"}, r"'dens' is no block"),
        ({"stages": "plain c16, c16 c32"}, r"'c32' is no block"),
        ({"stages": "plain c16, n2"}, r"a row of inverted has 1 numbers of channels"),
        ({"stages": "plain c16, inception c4.4"}, r"a row of inception has 1 or 6 numbers"),
        ({"stages": "c16, c32"}, r"must begin with its stem"),
        ({"stages": "plain c16, shuffle c16 q4"}, r"only rows of mbconv have a squeeze"),
        ({"stages": "plain c4, shuffle c5"}, r"a row of shuffle has 5 channels"),
        ({"channels": 1}, r"model\.channels=1, but the data have 2"),
    ],
)
def test_what_a_table_cannot_say(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**fields)


# ---- compound scaling


def test_rungs_of_the_compound_recipe_double_the_work() -> None:
    """Of EfficientNet's table, four times as wide and as deep, so that rounding says little; to
    whole multiples of 8 channels and, up, to whole blocks.
    """
    base = from_dict(base_config("convnet", "images", "classification"))
    base = override(base, table.grown(PUBLISHED["efficientnet_b0"], 4.0, 4.0))
    work = []
    for phi in range(4):
        fields = Compound().rung(phi, base, 64)
        side = fields.pop("data.side")
        rows = table.rows(override(base, fields).model)
        blocks = [row for row in rows if not row.own]
        work.append(side**2 * sum(row.repeats * row.channels[0] ** 2 for row in blocks))
    assert side == 97
    ratios = [after / before for before, after in itertools.pairwise(work)]
    assert all(1.8 < ratio < 2.1 for ratio in ratios)


def test_only_a_table_can_be_scaled() -> None:
    base = from_dict(base_config("resnet", "images", "classification"))
    with pytest.raises(ConfigError, match=r"model\.family=convnet"):
        Compound().rung(1, base, 8)


# ---- blocks


FORMS: dict[str, dict[str, Any]] = {name: {"block": name} for name in BLOCKS}
FORMS |= {"inception": {"block": "inception", "width": 16}}


@pytest.mark.parametrize("name", FORMS)
def test_every_parameter_has_logical_axes(name: str) -> None:
    one = config(**FORMS[name])
    module = module_of(FAMILY, one)
    tree = jax.eval_shape(module.init, jax.random.key(0), batch_of(jnp.zeros((1, *SHAPE))))
    check_axes(tree["params"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n, marks=pytest.mark.slow if n in ("inverted", "dense") else pytest.mark.exhaustive
        )
        for n in FORMS
    ],
)
def test_a_mesh_and_computing_again_change_nothing(name: str) -> None:
    one, rows = config(**FORMS[name]), images(8)
    params = params_of(one)
    expected = jax.jit(loss_and_gradient(FAMILY, one))(params, rows)
    again = dataclasses.replace(one, remat="full")
    # Sums over places and channels in another order, through up to twelve norms.
    close = functools.partial(close_trees, rtol=1e-4, atol=1e-4)
    close(jax.jit(loss_and_gradient(FAMILY, again))(params, rows), expected)
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    places = sharding.state_shardings(boxed(FAMILY, one, SHAPE), mesh)
    with sharding.context(mesh):
        x = jax.device_put(rows, sharding.batch_sharding(mesh))
        placed = jax.device_put(params, places)
        close(jax.device_get(jax.jit(loss_and_gradient(FAMILY, one))(placed, x)), expected)


@pytest.mark.slow
def test_shuffling_deals_out_both_halves() -> None:
    """Of a block that keeps the shape, every other channel is one of the first half, untouched."""
    one = config(block="shuffle", stages="plain c4, c4")
    params = params_of(one)
    from scaling.families.convnet.blocks import Shuffle

    row = table.rows(one)[1]
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 4))
    y = Shuffle(one, row, 0, 2).apply({"params": params["row1_block0"]}, x)
    np.testing.assert_array_equal(y[..., ::2], x[..., :2])


@pytest.mark.slow
def test_a_signal_is_convolved_along_it() -> None:
    """Every block reads images one row high."""
    for block in BLOCKS:
        one = FAMILY.resolve(
            ConvNetConfig(width=4, block=block),  # type: ignore[arg-type]
            facts(height=1, image_width=9, channels=1, classes=3),
        )
        signal = {"image": jax.ShapeDtypeStruct((2, 1, 9, 1), jnp.float32)}
        module = module_of(FAMILY, one)
        shapes = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), signal)["params"])
        kernels = [leaf.shape for leaf in jax.tree.leaves(shapes) if leaf.ndim == 4]
        assert {shape[0] for shape in kernels} == {1}
        assert jax.eval_shape(module.apply, {"params": shapes}, signal)["out"].shape == (2, 3)
