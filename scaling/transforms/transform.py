"""A model whose parameters are stored in another form than it uses.

`build` takes a run's config and gives what `model.init` and `model.apply` are called on everywhere:
in training and evaluation, packed or alone, in debugging and in the counts of costs. Without a
transform that is the flax module itself, and nothing of this is in its program.
"""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from scaling import families
from scaling.config import RunConfig, choices
from scaling.errors import ConfigError, nearest
from scaling.optim import subtree


class Model(Protocol):
    """As a flax module is called."""

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """(key, batch) -> {"params": the parameters as stored, boxed}."""

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """({"params": as stored}, batch, ...) -> outputs."""


@dataclass(frozen=True)
class Functions:
    """A transform of parameters, pure."""

    # (parameters as used, boxed, key) -> as stored, boxed: those and what is stored beside them.
    # Raises ConfigError for what cannot be
    init: Callable[[Any, jax.Array], Any]
    apply: Callable[[Any], Any]  # as stored -> as used
    trained: Callable[[str], bool]  # whether the stored leaf at a path is trained


@dataclass(frozen=True)
class Transformed:
    """A flax module, its parameters stored in another form."""

    module: Any
    functions: Functions

    def init(self, key: jax.Array, batch: Any) -> dict[str, Any]:
        """{"params": as stored, boxed}; what is used of it is drawn as the module draws it."""
        return {"params": self.functions.init(self.module.init(key, batch)["params"], key)}

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """The module's outputs with the parameters as used."""
        with jax.named_scope("transform"):
            used = self.functions.apply(variables["params"])
        return self.module.apply({"params": used}, *args, **kwargs)


def functions(config: RunConfig) -> Functions | None:
    """Those of a run; None: it has no transform."""
    lazy = choices.transform(config.transform).functions
    return None if lazy is None else choices.load(lazy)(config.transform)


def build(config: RunConfig) -> Model:
    """The model of a resolved run, which takes the parameters as they are stored."""
    module, found = families.build(config.model), functions(config)
    return module if found is None else Transformed(module, found)


def trained(config: RunConfig) -> Callable[[Any], Any]:
    """A function from the parameters as stored to the part of them that is trained: the same tree,
    without a transform.
    """
    found = functions(config)
    if found is None:
        return lambda params: params
    return lambda params: subtree.where(params, found.trained)


def used(config: RunConfig, params: Any) -> Any:
    """The parameters as the model uses them, of those that are stored."""
    found = functions(config)
    return params if found is None else found.apply(params)


# ---- which leaves a field means


def patterns(text: str | None) -> list[str]:
    """Those of a field: "query, blocks/mlp"."""
    return [one.strip() for one in (text or "").split(",") if one.strip()]


def matches(path: str, wanted: Sequence[str]) -> bool:
    """Whether a path is meant by one of the patterns: each is a name in it, or several in a row,
    with * for any characters: "query" and "attention/q*" both mean "blocks/attention/query/w".
    """
    return any(fnmatch.fnmatchcase(f"/{path}/", f"*/{one}/*") for one in wanted)


def check_patterns(field: str, text: str | None, paths: Sequence[str]) -> list[str]:
    """The patterns of a field, each of which means one of the paths. Raises ConfigError."""
    found = patterns(text)
    for one in found:
        if not any(matches(path, [one]) for path in paths):
            names = sorted({name for path in paths for name in (path, *path.split("/"))})
            raise ConfigError(
                f"{field}: {one!r} means none of the parameters that it can{nearest(one, names)}"
            )
    return found
