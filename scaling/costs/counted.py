"""The size of a model whose family has no closed formula: counted from the shapes of its parameters
and from the program of its forward pass. Called by `sizes.py`; starts no device.
"""

import math
from typing import Any

import jax

from scaling import families
from scaling.config import RunConfig, choices, to_dict
from scaling.config.choices import DataConfig, ModelConfig
from scaling.config.contracts import Size
from scaling.costs.ledger import Ledger, ledger
from scaling.devices import sharding


def counted(model: ModelConfig, data: DataConfig) -> Size:
    """Matmuls and convolutions of the forward pass over one example, times 3, a unit of data."""
    boxed, forward = _forward(model, data)
    params = sharding.unbox(boxed)
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    flops = 3 * (forward.matmul + forward.convolution) / data.units_per_example
    return Size(total, total - _looked_up(boxed), total, flops)


def convolves(model: ModelConfig, data: DataConfig) -> bool:
    """Whether the model's program has convolutions: looked for once of all that differ in sizes."""
    words = [
        (name, value)
        for record in (model, data)
        for name, value in to_dict(record).items()
        if isinstance(value, str | bool)
    ]
    key = repr(words)
    if key not in _CONVOLVES:
        _CONVOLVES[key] = _forward(model, data)[1].convolution > 0
    return _CONVOLVES[key]


_CONVOLVES: dict[str, bool] = {}


def slow_loops(config: RunConfig, platform: str) -> str | None:
    """A sentence about fields that put convolutions into the body of a loop, where XLA's CPU takes
    many times as long for them (jax-ml/jax issue 12868); None where none does.
    """
    train = config.train
    looped = {"steps_per_call": train.steps_per_call, "microbatches": train.microbatches}
    given = [f"train.{name}={count}" for name, count in looped.items() if count > 1]
    if platform != "cpu" or not given or not convolves(config.model, config.data):
        return None
    return (
        f"{' and '.join(given)}: convolutions in the body of a loop take a CPU many times as long; "
        "leave it at 1 here"
    )


def _forward(model: ModelConfig, data: DataConfig) -> tuple[Any, Ledger]:
    """Shapes of the parameters, boxed, and what the forward pass over one example does."""
    family = choices.family(model)
    module = families.build(family.readable(model))
    shapes = choices.kind(data).shapes(data)
    batch = {
        name: jax.ShapeDtypeStruct((1, *shape), dtype) for name, (shape, dtype) in shapes.items()
    }
    boxed = jax.eval_shape(lambda b: module.init(jax.random.key(0), b), batch)["params"]
    params = sharding.unbox(boxed)
    return boxed, ledger(lambda p, b: module.apply({"params": p}, b), params, batch)


def _looked_up(boxed: Any) -> int:
    """Parameters of tables, by their logical axes."""
    tables = set(sharding.LOOKED_UP)
    return sum(
        math.prod(shape) for axes, shape in sharding.named_shapes(boxed) if tables & set(axes)
    )
