"""Between a RunConfig and what people and files say of one: dicts, ConfigDicts, dotted fields.

`base_config` and `eval_set` give configs their fields, `from_dict` reads them, strictly;
`override` sets dotted fields of a run that there is. No jax in this file.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from scaling.config import choices, nested
from scaling.config.run import EvalSetConfig, RunConfig
from scaling.errors import ConfigError, nearest


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config dataclass; `from_dict` reads it back to an equal object."""
    return nested.plain(config)


def to_identity(config: Any) -> dict[str, Any]:
    """`to_dict` without the fields of how a run is executed: what it computes."""
    return nested.plain(config, identity=True)


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """RunConfig from nested mappings (a ConfigDict, JSON); fields left out take their defaults.

    Raises ConfigError for what is no mapping, an unknown key (naming the nearest) or a value of the
    wrong type (naming the field).
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        hint = "; call it" if callable(values) else ""
        raise ConfigError(f"a config must be a ConfigDict, not a {type(values).__name__}{hint}")
    return nested.read(values, RunConfig)


def base_config(
    family: str | None = None,
    data: str | None = None,
    objective: str | None = None,
    transform: str | None = None,
) -> ml_collections.ConfigDict:
    """A locked ConfigDict with every field of a run at its default, typed, so that flags can set
    all of them.

    Args:
      family: of models (`scaling/families`); None: the default one. Likewise
      data: kind of data (`scaling/data/kinds`), and
      objective: what is minimised (`scaling/objectives`).
      transform: of the parameters (`scaling/transforms`).
    """
    run = RunConfig(
        model=choices.new("model", family),
        data=choices.new("data", data),
        objective=choices.new("objective", objective),
        transform=choices.new("transform", transform),
    )
    config = nested.typed_config_dict(run)
    config.lock()
    return config


def eval_set(**fields: Any) -> ml_collections.ConfigDict:
    """One more entry for `config.evals.sets`, typed as the others are."""
    return nested.typed_config_dict(dataclasses.replace(EvalSetConfig(), **fields))


def is_debug(arg: str) -> bool:
    """Whether the argument of a config or study, "path.py:arg", asks for its debug form.

    Raises ConfigError for any but "" and "debug": a typo must not train at full size.
    """
    if arg not in ("", "debug"):
        raise ConfigError(
            f":{arg} is no form of this config{nearest(arg, ['debug'])}; leave it out for full size"
        )
    return arg == "debug"


def form_of(arg: str, forms: Iterable[str]) -> tuple[str, bool]:
    """The form that the argument of a study names, "form", "form_debug", "debug" or nothing, and
    whether it asks for its debug form. Nothing is the form "".

    Raises ConfigError for a form that is none of `forms`.
    """
    debug = arg == "debug" or arg.endswith("_debug")
    form = arg.removesuffix("debug").removesuffix("_") if debug else arg
    if form not in (known := list(forms)):
        raise ConfigError(
            f":{form} is no form of this config{nearest(form, ['debug', *filter(None, known)])}; "
            "leave it out for full size"
        )
    return form, debug


# Groups of which a person gives the names.
_NAMED = (["evals", "sets"], ["mixture", "shares"])


def override(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """A new RunConfig with dotted fields replaced: {"model.width": 512, "seed": 1}. Strict as
    `from_dict`. Evaluation sets of a corpus that is replaced by another fall away (`left_out`).
    """
    values = to_dict(config)
    for name in left_out(config, overrides):
        del values["evals"]["sets"][name]
    for group, room in choices.ROOMS.items():
        other = overrides.get(f"{group}.{room.field}")
        if other is not None and other != values[group][room.field]:
            values[group] = _exchanged(group, getattr(config, group), other)
    for path, value in overrides.items():
        *groups, leaf = path.split(".")
        at = values
        for i, group in enumerate(groups):
            if not isinstance(at.get(group), dict):
                raise ConfigError(
                    f"{path}: {'.'.join(groups[: i + 1])} is no config group{nearest(group, at)}"
                )
            at = at[group]
        if leaf not in at and groups not in _NAMED:
            raise ConfigError(f"{path} is no config field{nearest(leaf, at)}")
        named = groups in _NAMED or [*groups, leaf] in _NAMED
        if isinstance(at.get(leaf), dict) and not named:
            raise ConfigError(
                f"{path} is a group of fields; name one, such as {path}.{min(at[leaf])}"
            )
        at[leaf] = dict(value) if isinstance(value, Mapping) else value
    return from_dict(values)


def _exchanged(group: str, old: Any, name: Any) -> dict[str, Any]:
    """The fields of another choice, with what the old one has set and the other has too."""
    new = to_dict(choices.record(group, name).config())
    before, defaults = to_dict(old), to_dict(type(old)())
    same = {k: v for k, v in before.items() if k in new and v != defaults[k]}
    return new | same | {choices.ROOMS[group].field: name}


def left_out(config: RunConfig, overrides: Mapping[str, Any]) -> dict[str, str]:
    """The evaluation sets that `override` leaves out, and why, in a line: a set that is a part of
    the training corpus means the config's own, so it goes where that gives way to a source of
    another kind; and a whole part goes where that part is now trained on. Unless the overrides
    speak of the set.
    """
    old, new = config.data.source, str(overrides.get("data.source", config.data.source))
    sets = {
        name: one
        for name, one in config.evals.sets.items()
        if one.source is None and one.part is not None
        if not any(f"{path}.".startswith(f"evals.sets.{name}.") for path in overrides)
    }
    if old.partition(":")[0] == new.partition(":")[0]:
        part = overrides.get("data.part", getattr(config.data, "part", None))
        return {
            name: f"evals.sets.{name} is left out: it is all of part {part}, which is trained on"
            for name, one in sets.items()
            if (one.part, one.split) == (part, "all")
        }
    return {
        name: f"evals.sets.{name} is left out: it is part {s.part} of {old}, and data.source={new}"
        for name, s in sets.items()
    }


def flat(config: RunConfig) -> dict[str, Any]:
    """Dotted field -> value, sorted: the columns of a table, the lines of a golden file."""
    out: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for key in sorted(values):
            if isinstance(values[key], Mapping):
                walk(values[key], f"{prefix}{key}.")
            else:
                out[prefix + key] = values[key]

    walk(to_dict(config), "")
    return out
