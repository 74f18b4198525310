"""What a run chooses among: families of models, kinds of data, objectives, transforms of
parameters.

A choice is a frozen dataclass, told apart from the others by its first field (`family`, `kind`,
`name`); beside it stands its record (`contracts.py`). The rooms `scaling/families`,
`scaling/data/kinds`, `scaling/objectives` and `scaling/transforms` have a dict each from name to
record, or to "module:NAME" of one, imported at its first use.
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaling.config.contracts import Family, Kind, Objective, Transform
from scaling.config.protocols import DataConfig, ModelConfig, ObjectiveConfig, TransformConfig
from scaling.errors import ConfigError, nearest


@dataclass(frozen=True)
class _Room:
    module: str  # with the dict and DEFAULT
    registry: str
    field: str  # the first of the choice's dataclass
    what: str  # in messages


ROOMS = {
    "model": _Room("scaling.families", "FAMILIES", "family", "model family"),
    "data": _Room("scaling.data.kinds", "KINDS", "kind", "kind of data"),
    "objective": _Room("scaling.objectives", "OBJECTIVES", "name", "objective"),
    "transform": _Room("scaling.transforms", "TRANSFORMS", "name", "transform"),
}


def load(lazy: Any) -> Any:
    """What "module:NAME" stands for; anything else is itself."""
    return _loaded(lazy) if isinstance(lazy, str) else lazy


@functools.cache
def _loaded(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def registry(group: str) -> Mapping[str, Any]:
    """Name -> record (or its place) of a group of the run: "model", "data", ..."""
    room = ROOMS[group]
    return load(f"{room.module}:{room.registry}")


def default(group: str) -> str:
    """The name that a config without one means."""
    return load(f"{ROOMS[group].module}:DEFAULT")


def record(group: str, name: object) -> Any:
    """The record of a choice by its name. Raises ConfigError, naming the nearest."""
    room, known = ROOMS[group], registry(group)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            f"{group}.{room.field}={name!r} is no {room.what}{nearest(str(name), known)}"
        )
    return load(known[name])


def config_class(group: str, values: Mapping[str, Any]) -> type:
    """The dataclass that a group of fields is to be read as, by its first field."""
    return record(group, values.get(ROOMS[group].field, default(group))).config


def new(group: str, name: str | None = None) -> Any:
    """A choice with every field at its default."""
    return record(group, name or default(group)).config()


def family(model: ModelConfig) -> Family:
    """The record of a model's family."""
    return record("model", model.family)


def kind(data: DataConfig) -> Kind:
    """The record of the data's kind."""
    return record("data", data.kind)


def stated(model: ModelConfig, data: DataConfig) -> Mapping[str, int] | None:
    """What a model's config says of its data, by the names of `Facts.sizes`, where that is enough
    to plan it without reading them; else None.
    """
    found = family(model).stated(model)
    return found if found is not None and kind(data).sizes <= found.keys() else None


def objective(config: ObjectiveConfig) -> Objective:
    """The record of an objective."""
    return record("objective", config.name)


def transform(config: TransformConfig) -> Transform:
    """The record of a transform."""
    return record("transform", config.name)
