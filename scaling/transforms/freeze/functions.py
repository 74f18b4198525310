"""Parameters are stored as they are used; those of `modules` are not trained."""

from typing import Any

import jax

from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.subtree import matches
from scaling.transforms.freeze import FreezeConfig
from scaling.transforms.transform import Functions, check_patterns, patterns


def functions(config: FreezeConfig) -> Functions:
    """The transform of a run."""
    frozen = patterns(config.modules)

    def init(params: Any, key: jax.Array) -> Any:
        paths = [path for path, _ in subtree.leaves(params)]
        check_patterns("transform.modules", config.modules, paths)
        if all(matches(path, frozen) for path in paths):
            raise ConfigError(
                f"transform.modules={config.modules!r} leaves nothing to train; name fewer"
            )
        return params

    return Functions(init, lambda stored: stored, lambda path: not matches(path, frozen))
