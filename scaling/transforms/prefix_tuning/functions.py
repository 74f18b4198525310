"""Parameters are stored as they are used, and beside them `prefix_key` and `prefix_value`
[layers, key-value heads, length, channels], which `models/prefix.py` reads.

They are trained as they are: the authors make them of a smaller matrix by an MLP while they train,
for stability, which is left out here. Keys begin as long as those of a text whose channels have
variance 1, values at zero.
"""

import zlib
from typing import Any

import flax.linen as nn
import jax

from scaling.errors import ConfigError
from scaling.models.layers import truncated_normal
from scaling.models.prefix import KEY, VALUE
from scaling.optim import subtree
from scaling.optim.subtree import matches
from scaling.transforms.prefix_tuning import PrefixConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns, patterns

_PROJECTION = "/key/w"
# Of a layer that can read a prefix, after the axes of a stack: from the stream to heads of keys.
_AXES = ("embed", "kv_heads", "head_dim")


def functions(config: PrefixConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    del leaves
    return Functions(
        init=lambda params, key: _init(config, params, key),
        apply=lambda stored: stored,
        trained=lambda path: own(path) or matches(path, patterns(config.also)),
        own=own,
    )


def own(path: str) -> bool:
    """Whether a leaf is a prefix."""
    return path.rpartition("/")[2] in (KEY, VALUE)


def _init(config: PrefixConfig, params: Any, key: jax.Array) -> Any:
    boxes = dict(subtree.leaves(params))
    can = {
        path.removesuffix(_PROJECTION): box
        for path, box in boxes.items()
        if path.endswith(_PROJECTION) and tuple(box.names)[-3:] == _AXES
    }
    if not can:
        raise ConfigError(
            "transform.name=prefix_tuning needs attention with causal or whole rows, which the "
            "model does not have; choose another model.family, or transform.name=lora"
        )
    wanted = check_patterns("transform.modules", config.modules, list(can))
    check_patterns("transform.also", config.also, list(boxes))
    added: dict[str, Any] = {}
    for path, box in can.items():
        if not matches(path, wanted):
            continue
        *stack, _, heads, channels = box.value.shape
        shape = (*stack, heads, config.length, channels)
        axes = (*box.names[:-3], "kv_heads", "positions", "head_dim")
        own_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        zeros = jax.nn.initializers.zeros
        for name, draw in ((KEY, truncated_normal(1.0)), (VALUE, zeros)):
            value = draw(own_key, shape, box.value.dtype)
            added[f"{path}/{name}"] = nn.LogicallyPartitioned(value, axes)
    return subtree.nested(boxes | added)
