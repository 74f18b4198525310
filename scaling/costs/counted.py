"""The size of a model whose family has no closed formula: counted from the shapes of its parameters
and from the program of its forward pass. Called by `sizes.py`; starts no device.
"""

import math
from typing import Any

import jax

from scaling import families
from scaling.config import choices
from scaling.config.choices import DataConfig, ModelConfig, Size
from scaling.costs.ledger import ledger
from scaling.devices import sharding


def counted(model: ModelConfig, data: DataConfig) -> Size:
    """Matmuls and convolutions of the forward pass over one example, times 3, a unit of data."""
    family = choices.family(model)
    module = families.build(family.readable(model))
    shapes = choices.kind(data).shapes(data)
    batch = {
        name: jax.ShapeDtypeStruct((1, *shape), dtype) for name, (shape, dtype) in shapes.items()
    }
    boxed = jax.eval_shape(lambda b: module.init(jax.random.key(0), b), batch)["params"]
    params = sharding.unbox(boxed)
    forward = ledger(lambda p, b: module.apply({"params": p}, b), params, batch)
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    flops = 3 * (forward.matmul + forward.convolution) / data.units_per_example
    return Size(total, total - _looked_up(boxed), total, flops)


def _looked_up(boxed: Any) -> int:
    """Parameters of tables, by their logical axes."""
    tables = set(sharding.LOOKED_UP)
    return sum(
        math.prod(shape) for axes, shape in sharding.named_shapes(boxed) if tables & set(axes)
    )
