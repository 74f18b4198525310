"""Parameters are stored in float32 and used rounded (`models/rounding.py`)."""

from typing import Any

import jax

from scaling.errors import ConfigError
from scaling.models import rounding
from scaling.optim import subtree
from scaling.optim.subtree import matches
from scaling.transforms.qat import QatConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns, patterns


def functions(config: QatConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    can = {path: leaf for path, leaf in leaves().items() if leaf.ins}
    meant = {path for path in can if matches(path, patterns(config.modules))}

    def init(params: Any, key: jax.Array) -> Any:
        check_patterns("transform.modules", config.modules, list(can))
        if not meant:
            raise ConfigError("transform.modules is empty; name matrices, or * for all")
        return params

    def used(path: str, w: jax.Array) -> jax.Array:
        if path not in meant:
            return w
        return rounding.straight_through(w, can[path].ins, config.bits)

    def apply(stored: Any) -> Any:
        return subtree.nested({path: used(path, w) for path, w in subtree.leaves(stored)})

    return Functions(init, apply, lambda path: True)
