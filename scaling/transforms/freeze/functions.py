"""Parameters are stored as they are used; `modules`, or all that `only` does not mean, stay."""

from typing import Any

import jax

from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.subtree import matches
from scaling.transforms.freeze import FreezeConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns, patterns


def functions(config: FreezeConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    field = "only" if config.only else "modules"
    given = getattr(config, field)
    meant = patterns(given)

    def trained(path: str) -> bool:
        return matches(path, meant) == bool(config.only)

    def init(params: Any, key: jax.Array) -> Any:
        paths = [path for path, _ in subtree.leaves(params)]
        check_patterns(f"transform.{field}", given, paths)
        if not any(trained(path) for path in paths):
            raise ConfigError(
                f"transform.{field}={given!r} leaves nothing to train; name "
                f"{'more' if config.only else 'fewer'}"
            )
        return params

    return Functions(init, lambda stored: stored, trained)
