"""Low-rank adaptation: w is used as w + alpha / rank * A B (Hu et al. 2021, LoRA, section 4.1).

Beside each adapted matrix "w" lie "w_lora_a" [..., inputs..., rank] and "w_lora_b" [..., rank,
outputs...]: the axes of w are cut into those that its product sums over and those that it makes,
by their logical names; layers and experts come first in all three. A starts as a matrix of its
fan-in does, B at zero, so that the model starts as it is.
"""

import math
import zlib
from typing import Any

import flax.linen as nn
import jax

from scaling.errors import ConfigError
from scaling.models.layers import truncated_normal
from scaling.optim import subtree
from scaling.optim.roles import cut
from scaling.optim.subtree import matches
from scaling.transforms.lora import LoraConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns, patterns

_A, _B = "_lora_a", "_lora_b"
RANK = "lora_rank"  # logical axis of both factors


def functions(config: LoraConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    return Functions(
        init=lambda params, key: _init(config, params, key),
        apply=lambda stored: _apply(config.alpha / config.rank, stored),
        trained=lambda path: path.endswith((_A, _B)) or matches(path, patterns(config.also)),
    )


def _init(config: LoraConfig, params: Any, key: jax.Array) -> Any:
    boxes = dict(subtree.leaves(params))
    can = {path: found for path, box in boxes.items() if (found := cut(path, tuple(box.names)))}
    wanted = check_patterns("transform.modules", config.modules, list(can))
    check_patterns("transform.also", config.also, list(boxes))
    if not wanted:
        raise ConfigError("transform.modules is empty; name matrices, such as blocks, or * for all")
    added: dict[str, Any] = {}
    for path in (path for path in can if matches(path, wanted)):
        box, (stacked, inputs) = boxes[path], can[path]
        shape, names = box.value.shape, tuple(box.names)
        stack, ins, outs = (
            slice(stacked),
            slice(stacked, stacked + inputs),
            slice(stacked + inputs, None),
        )
        fan_in, fan_out = math.prod(shape[ins]), math.prod(shape[outs])
        if config.rank > min(fan_in, fan_out):
            raise ConfigError(
                f"transform.rank={config.rank} is more than the matrix {path} has, {fan_in} by "
                f"{fan_out}; lower it, or leave the matrix out of transform.modules"
            )
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        draw = truncated_normal(1.0 / math.sqrt(fan_in))
        for name, drawn, axes, size in (
            (_A, draw, (*names[stack], *names[ins], RANK), (*shape[ins], config.rank)),
            (
                _B,
                jax.nn.initializers.zeros,
                (*names[stack], RANK, *names[outs]),
                (config.rank, *shape[outs]),
            ),
        ):
            value = drawn(own, (*shape[stack], *size), box.value.dtype)
            added[path + name] = nn.LogicallyPartitioned(value, axes)
    return subtree.nested(boxes | added)


def _apply(scale: float, stored: Any) -> Any:
    leaves = dict(subtree.leaves(stored))
    used = {path: leaf for path, leaf in leaves.items() if not path.endswith((_A, _B))}
    for path, w in used.items():
        if path + _A in leaves:
            used[path] = w + scale * product(leaves[path + _A], leaves[path + _B], w.shape)
    return subtree.nested(used)


def product(a: jax.Array, b: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A B of this shape, one at each place of the stack."""
    stacked = a.ndim + b.ndim - 2 - len(shape)
    rank = a.shape[-1]
    flat_a = a.reshape(*shape[:stacked], -1, rank)
    flat_b = b.reshape(*shape[:stacked], rank, -1)
    return (flat_a @ flat_b).reshape(shape)
