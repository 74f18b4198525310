"""Between dataclasses of fields and nested dicts, strictly: a typo or a wrong type is one error.

`plain` gives dicts, `flatten` dotted names, `read` takes dicts back, checking every key and type by
the annotations; `typed_config_dict` gives the ConfigDict that flags set. Called by
`scaling/config/run.py`, which has the dataclasses.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import ml_collections
from ml_collections import config_dict

from scaling.config import choices
from scaling.config.marks import in_identity
from scaling.errors import ConfigError, nearest

_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


_SCALARS = frozenset({type(None), str, int, float, bool})


@functools.cache
def _fields(cls: Any) -> tuple[dataclasses.Field, ...] | None:
    """Those of a dataclass; of another class, None."""
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else None


def plain(value: Any, identity: bool = False) -> Any:
    """Nested dicts of a dataclass; with `identity` of those fields that `marks.in_identity` has."""
    if type(value) in _SCALARS:
        return value
    fields = _fields(typing.cast(typing.Hashable, type(value)))
    if fields is not None:
        found = {}
        for one in fields:
            inner = getattr(value, one.name)
            if not identity or in_identity(one, inner):
                found[one.name] = inner if type(inner) in _SCALARS else plain(inner, identity)
        return found
    if isinstance(value, Mapping):
        return {key: plain(value[key], identity) for key in sorted(value)}
    return value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Field -> its type; what belongs to the class is no field."""
    found = typing.get_type_hints(cls)
    return {one.name: found[one.name] for one in dataclasses.fields(cls)}


@functools.cache
def _optional(hint: Any) -> tuple[Any, bool]:
    """(T, True) for T | None, else (T, False)."""
    if isinstance(hint, types.UnionType):
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return inner, True
    return hint, False


def _read_value(value: Any, hint: Any, path: str, choice: str | None = None) -> Any:
    hint, optional = _optional(hint)
    if value is None:
        if optional:
            return None
        raise ConfigError(f"{path} must not be None")
    if choice is not None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a group of fields, not {value!r}")
        return read(value, choices.config_class(choice, value), path)
    if type(value) is hint and hint in (int, str, bool):
        return value
    if typing.get_origin(hint) is Literal:
        known = typing.get_args(hint)
        if value not in known:
            raise ConfigError(
                f"{path}={value!r} is not one of {list(known)}{nearest(str(value), known)}"
            )
        return value
    if typing.get_origin(hint) is not None:  # Mapping[str, dataclass]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a mapping from name to settings, not {value!r}")
        inner = typing.get_args(hint)[1]
        return {str(k): _read_value(value[k], inner, f"{path}.{k}") for k in sorted(value)}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a group of fields, not {value!r}")
        return read(value, typing.cast(type, hint), path)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        if not math.isfinite(value):
            raise ConfigError(f"{path}={value!r} must be a finite number")
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(
            f"{path}={value!r} has the wrong type: {hint.__name__} wanted, {type(value).__name__} "
            "given"
        )
    return value


@functools.cache
def _slots(cls: Any) -> dict[str, tuple[Any, str | None, frozenset[Any]]]:
    """Field -> its type, the group whose choice it is, and what may stand there as it is: types,
    and of a Literal the words.
    """
    out = {}
    for one in dataclasses.fields(cls):
        hint, optional = _optional(_hints(cls)[one.name])
        fits: set[Any] = {type(None)} if optional else set()
        if hint in (int, str, bool):
            fits.add(hint)
        if typing.get_origin(hint) is Literal:
            fits |= {word for word in typing.get_args(hint) if isinstance(word, str)}
        out[one.name] = (_hints(cls)[one.name], one.metadata.get("choice"), frozenset(fits))
    return out


def read(values: Mapping[str, Any], cls: type, path: str = "") -> Any:
    """A `cls` of nested mappings; fields left out take their defaults.

    Args:
      values: name -> value.
      cls: a dataclass; of its fields marked as a choice, the mapping says which dataclass it is.
      path: dotted, of `values` within the whole.

    Raises ConfigError for an unknown key (naming the nearest) or a value of the wrong type (naming
    the field).
    """
    slots, prefix = _slots(cls), f"{path}." if path else ""
    given = {}
    for key, value in values.items():
        if key not in slots:
            raise ConfigError(f"{prefix}{key} is no config field{nearest(str(key), slots)}")
        hint, choice, fits = slots[key]
        # Most values stand as they are; a sweep reads millions.
        as_it_is = type(value) in fits or (type(value) is str and value in fits)
        given[key] = value if as_it_is else _read_value(value, hint, f"{prefix}{key}", choice)
    return cls(**given)


def from_text(value: Any, path: str, text: str) -> Any:
    """What `text`, typed by a person, stands for in the field `path` (dotted) of a dataclass; None
    for "None" where a field may be None. Choices and ranges are checked by those who read it.

    Raises ConfigError for a name that is no field (naming the nearest) or another type.
    """
    names, hint, optional = path.split("."), Any, False
    for i, name in enumerate(names):
        if isinstance(value, Mapping):
            known: dict[str, Any] = {key: type(value[key]) for key in value}
            if typing.get_args(hint)[1:] == (float,):  # of numbers, whatever they are called
                known.setdefault(name, float)
        elif dataclasses.is_dataclass(value):
            known = _hints(typing.cast(typing.Hashable, type(value)))
        else:
            raise ConfigError(f"{path}: {'.'.join(names[:i])} is no group of fields")
        if name not in known:
            field = ".".join(names[: i + 1])
            raise ConfigError(f"{field} is no config field{nearest(name, known)}")
        hint, optional = _optional(known[name])
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    if text == "None" and optional:
        return None
    try:
        if hint is bool:
            return _BOOLS[text.lower()]
        if hint is float or (hint is int and not text.lstrip("+-").isdecimal()):
            return float(text)  # 1e3 is a whole number: whoever reads it says so
        return int(text) if hint is int else text
    except (KeyError, ValueError):
        raise ConfigError(
            f"{path}={text} has the wrong type: {hint.__name__}{' or None' * optional} wanted"
        ) from None


def typed_config_dict(value: Any) -> ml_collections.ConfigDict:
    """Of a dataclass; every field has its type, those at None included."""
    out = ml_collections.ConfigDict()
    for f in dataclasses.fields(value):
        v, cls = getattr(value, f.name), typing.cast(typing.Hashable, type(value))
        hint, optional = _optional(_hints(cls)[f.name])
        if optional:
            out[f.name] = config_dict.placeholder(float if hint is float else hint)
            if v is not None:
                out[f.name] = v
        elif dataclasses.is_dataclass(v):
            out[f.name] = typed_config_dict(v)
        elif isinstance(v, Mapping):
            inner = {k: v[k] if type(v[k]) in _SCALARS else typed_config_dict(v[k]) for k in v}
            out[f.name] = ml_collections.ConfigDict(inner)
        else:
            out[f.name] = v
    return out
