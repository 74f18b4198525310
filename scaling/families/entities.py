"""What families have in common that embed the entities and the relations of a graph: their config,
size and record. No jax in this file; the tables are in `scaling/models/entities.py`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, Facts, Family, Size
from scaling.config.marks import execution, traced
from scaling.errors import ConfigError


@dataclass(frozen=True)
class EntitiesConfig:
    """A vector for each entity and each relation."""

    family: str = ""
    width: int = 32  # numbers of a vector
    depth: int = 1  # nothing lies between the tables and the scores
    entities: int | None = None  # that there are; None: what the data have
    relations: int | None = None  # likewise
    init_scale: float = traced(
        1.0, argument=False
    )  # of every table's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    remat: Literal["none"] = execution("none")  # there is nothing to compute again


def _resolve(model: Any, facts: Facts) -> Any:
    """Entities and relations. Raises ConfigError where the data have none, or others."""
    known = {}
    for name in ("entities", "relations"):
        if name not in facts.sizes:
            raise ConfigError(
                f"model.family={model.family} needs data with {name}; choose data.kind=triples"
            )
        known[name] = facts.sizes[name]
        if getattr(model, name) not in (None, known[name]):
            raise ConfigError(
                f"model.{name}={getattr(model, name)}, but the data have {known[name]}; leave "
                f"model.{name} unset"
            )
    return dataclasses.replace(model, **known)


def _scaled(model: Any, width: int, depth: int) -> dict[str, Any]:
    if depth != 1:
        raise ConfigError(f"model.depth={depth}: {model.family} has none; vary model.width")
    return {"model.width": width}


def _stated(model: Any) -> dict[str, int] | None:
    sizes = {name: getattr(model, name) for name in ("entities", "relations")}
    return None if None in sizes.values() else sizes


def _size(model: Any, data: Any) -> Size:
    """Both tables; a triple asks for the scores of all entities twice."""
    del data
    entities = resolved(model.entities)
    params = (entities + resolved(model.relations)) * model.width
    return Size(params, 0, params, 3 * 2.0 * 2 * entities * model.width)


def record(config: type, module: str | Callable[..., Any], ranges: tuple[Any, ...] = ()) -> Family:
    """The record of such a family."""
    return Family(
        config=config,
        module=module,
        reads=frozenset({"head", "relation", "tail"}),
        gives=frozenset({"head_scores", "tail_scores"}),
        resolve=_resolve,
        scaled=_scaled,
        stated=_stated,
        size=_size,
        ranges=(
            (("entities", "relations"), AT_LEAST_ONE),
            (("depth",), (lambda depth: depth == 1, "be 1: there are two tables and no layer")),
            *ranges,
        ),
    )
