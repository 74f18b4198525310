"""The residual network: its forms, its published sizes, its blocks, what it reads."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from small_networks import (
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

from scaling.config import MeshConfig
from scaling.config.contracts import Size
from scaling.costs.ledger import ledger
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.families.resnet import FAMILY, ResNetConfig, blocks
from scaling.families.resnet.network import Block

SHAPE = (7, 6, 2)
FACTS = facts(height=7, image_width=6, channels=2, classes=3)


def config(**fields: Any) -> ResNetConfig:
    return FAMILY.resolve(
        dataclasses.replace(ResNetConfig(width=4, depth=2, stages="1-1"), **fields), FACTS
    )


SMALL = config()


def params_of(config: ResNetConfig) -> Any:
    return nn.unbox(boxed(FAMILY, config, SHAPE))


def images(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, *SHAPE)).astype(np.float32)


FORMS = [
    {},
    {"order": "post"},
    {"block": "bottleneck", "stages": "2-1", "depth": 1},
    {"block": "bottleneck", "order": "post"},
    {"stem": "large", "group": 2},
    {"stem": "large", "order": "post", "norm": "frozen", "padding": "centred"},
]


@pytest.mark.parametrize(
    ("stages", "block", "order", "params"),
    [
        # He et al. 2015, as torchvision counts them: ResNet-18 and ResNet-50
        ("2-2-2-2", "basic", "post", 11_689_512),
        ("3-4-6-3", "bottleneck", "post", 25_557_032),
        # He et al. 2016, as timm counts its resnetv2_50: the norms have other channels
        ("3-4-6-3", "bottleneck", "pre", 25_549_352),
    ],
)
def test_published_counts(stages: str, block: Any, order: Any, params: int) -> None:
    one = ResNetConfig(width=64, depth=1, stages=stages, block=block, order=order, stem="large")
    one = FAMILY.resolve(one, facts(height=224, image_width=224, channels=3, classes=1000))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(module_of(FAMILY, one).init, jax.random.key(0), {"image": image})
    assert count(shapes) == params
    assert FAMILY.size(one, None).params == params


@pytest.mark.parametrize("fields", FORMS)
def test_the_closed_size_is_what_the_program_counts(fields: dict[str, Any]) -> None:
    one = config(**fields)
    size = FAMILY.size(one, None)
    assert size.params == count(params_of(one))
    counted = ledger_of(one)
    assert counted == size.flops_per_unit


def ledger_of(one: ResNetConfig) -> float:
    """Matmul and convolution FLOPs an image, of loss and gradient."""
    counted = ledger(loss_and_gradient(FAMILY, one), params_of(one), images(2))
    return (counted.matmul + counted.convolution) / 2


def test_a_signal_is_convolved_along_it() -> None:
    """Kernels one row high, and the closed size of them."""
    one = FAMILY.resolve(
        ResNetConfig(width=4, depth=1, stages="1-1"),
        facts(height=1, image_width=9, channels=1, classes=3),
    )
    signal = jax.ShapeDtypeStruct((2, 1, 9, 1), jnp.float32)
    shapes = nn.unbox(
        jax.eval_shape(module_of(FAMILY, one).init, jax.random.key(0), {"image": signal})["params"]
    )
    assert shapes["stem"]["w"].shape == (1, 3, 1, 4)
    assert shapes["stage1_first"]["conv0"]["w"].shape == (1, 3, 4, 8)
    counted = ledger(loss_and_gradient(FAMILY, one), shapes, signal)
    size = FAMILY.size(one, None)
    assert (count(shapes), (counted.matmul + counted.convolution) / 2) == (
        size.params,
        size.flops_per_unit,
    )


def test_flops_of_a_stem_and_a_head() -> None:
    """By hand: 3 x 3 places of an image of 2 x 2 read the image 16 times, not 36."""
    one = FAMILY.resolve(
        ResNetConfig(width=4, depth=1, stages="1"),
        facts(height=2, image_width=2, channels=1, classes=3),
    )
    stem, branch, head = 16 * 1 * 4, 2 * 16 * 4 * 4, 4 * 3
    size = FAMILY.size(one, None)
    assert size.flops_per_unit == 2 * (2 * stem + 3 * branch + 3 * head)
    assert isinstance(size, Size)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fields", FORMS[:4])
def test_scanned_unrolled_and_computed_again_are_the_same(fields: dict[str, Any]) -> None:
    one = config(**(fields | {"depth": 3, "stages": "1-1"}))
    params = params_of(one)
    expected = jax.jit(loss_and_gradient(FAMILY, one))(params, images())
    for change in ({"scan_layers": False}, {"remat": "full"}):
        other = dataclasses.replace(one, **change)
        actual = jax.jit(loss_and_gradient(FAMILY, other))(params, images())
        # Sums over places in another order, through six norms.
        close_trees(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("fields", FORMS)
def test_what_a_block_is_at_first(fields: dict[str, Any]) -> None:
    """With `zero_init`, the identity (behind its ReLU, where there is one); else, not."""
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 5, 5, 16)))
    for zero in (True, False):
        one = config(**(fields | {"width": 4 if "block" in fields else 16, "zero_init": zero}))
        block = Block(one, 0, False)
        params = nn.unbox(block.init(jax.random.key(1), x))
        y = block.apply(params, x)
        assert (not np.any(y != x)) == zero
        gradients = jax.grad(lambda p, block=block: (block.apply(p, x) ** 2).sum())(params)
        last = max(name for name in gradients["params"] if name.startswith("conv"))
        branch = (
            gradients["params"]["norm" + last[4:]]
            if one.order == "post"
            else (gradients["params"][last])
        )
        trained = {name: leaf for name, leaf in branch.items() if name not in ("mean", "variance")}
        assert trained
        # It can leave it; statistics are no one's to move.
        assert all(np.any(leaf != 0) for leaf in trained.values())


def test_the_stream_keeps_its_size_block_after_block() -> None:
    """Pre-activation: each block adds about what the first stage's input had."""
    deep = config(width=32, depth=8, stages="1", order="pre")
    params = params_of(deep)
    x = jax.random.normal(jax.random.key(0), (4, 7, 6, 32))
    block = Block(deep, 0, False)
    layers = params["stage0"]
    squares = []
    for i in range(7):
        one = jax.tree.map(lambda p, i=i: p[i], layers)
        y = block.apply({"params": one}, x)
        squares.append(float(jnp.mean((y - x) ** 2)))
        x = y
    # Two kernels with He's std and a norm and a ReLU before each: 1, less what the edges lack.
    assert min(squares) > 0.5
    assert max(squares) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("fields", FORMS[:4])
def test_a_mesh_changes_nothing(fields: dict[str, Any]) -> None:
    """Kernels over fsdp and tensor, rows over data and fsdp; the three classes stay whole."""
    one, rows = config(**fields), images(8)
    function, params = loss_and_gradient(FAMILY, one), params_of(one)
    expected = jax.jit(function)(params, rows)
    mesh = meshes.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    places = sharding.state_shardings(boxed(FAMILY, one, SHAPE), mesh)
    at_stride = places["stage1_first"]["conv1"]["w"].spec
    assert at_stride == PartitionSpec(None, None, "tensor", "fsdp")
    with sharding.context(mesh):
        x = jax.device_put(rows, sharding.batch_sharding(mesh))
        actual = jax.jit(function)(jax.device_put(params, places), x)
    # Sums over places and channels in another order, through six norms.
    close_trees(jax.device_get(actual), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_bfloat16_is_near_float32() -> None:
    params = params_of(SMALL)
    one, other = (
        module_of(FAMILY, config(dtype=d)).apply({"params": params}, batch_of(images()))
        for d in ("float32", "bfloat16")
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(other)} == {jnp.dtype("float32")}
    # Eight bits of mantissa, through nine convolutions.
    assert relative(one, other) < 0.05


def test_rows_do_not_meet() -> None:
    out = jax.jit(lambda p, x: module_of(FAMILY, SMALL).apply({"params": p}, {"image": x})["out"])
    together = out(params_of(SMALL), images())
    alone = jnp.concatenate([out(params_of(SMALL), images()[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_every_parameter_has_logical_axes() -> None:
    tree = boxed(FAMILY, config(block="bottleneck", order="post"), SHAPE)
    check_axes(tree)
    assert tree["stem"]["w"].names == ("kernel_height", "kernel_width", "kernel_inputs", "embed")
    assert tree["stage1"]["conv1"]["w"].names == (
        "layers",
        "kernel_height",
        "kernel_width",
        "mlp",
        "embed",
    )


def test_shapes_groups_and_classes_are_resolved() -> None:
    assert (SMALL.height, SMALL.image_width, SMALL.channels, SMALL.classes) == (7, 6, 2, 3)
    assert FAMILY.resolve(SMALL, FACTS) == SMALL
    assert [config(width=w).group for w in (4, 12, 48, 64, 17)] == [4, 12, 16, 16, 17]
    assert blocks(config(depth=2, stages="1-3-1")) == (2, 6, 2)
    for fields, message in (
        ({"stages": "1,2"}, r"model\.stages='1,2' must be positive numbers with - between them"),
        ({"stages": "1-0"}, r"model\.stages='1-0' must be"),
        ({"group": 3}, r"model\.width=4 is not divisible by model\.group=3"),
        ({"channels": 1}, r"model\.channels=1, but the data have 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(**fields)
    with pytest.raises(ConfigError, match="reads images"):
        FAMILY.resolve(ResNetConfig(), facts(features=4, targets=1))
    with pytest.raises(ConfigError, match=r"model\.classes: the data have no classes"):
        FAMILY.resolve(ResNetConfig(), facts(height=4, image_width=4, channels=1))
