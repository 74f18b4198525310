"""--config, a config file, and --config.<field>=<value>, which sets any field of it.

`define` makes the flags; `gather`, called with the command line before it is parsed, turns every
--config.<field> into one of them; `given` is the config that they say. Called by the commands that
take a config, and by `launch.py`.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from scaling.commands.command import FLAGS
from scaling.errors import ConfigError, UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig

FIELDS = "config.<field>"


def define(default: str | None = None) -> None:
    """--config and --config.<field>."""
    flags.DEFINE_string(
        "config", default, "a base config, e.g. configs/lm.py:debug, or a run directory for its own"
    )
    flags.DEFINE_multi_string(
        FIELDS,
        [],
        "=<value>: set any field of it; None unsets one, and a length displaces the base's",
    )


def gather(command: str, argv: Sequence[str]) -> list[str]:
    """`argv` with "--config.model.width=64", or with a space for "=", as a value of one flag.

    Raises UserError for a command without --config.
    """
    out, rest = list[str](), list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        path = name.lstrip("-")
        if name == "--":
            return [*out, name, *rest]
        if not name.startswith("-") or not path.startswith(("config.", "noconfig.")):
            out.append(name + equals + value)
            continue
        if FIELDS not in FLAGS:
            way = "; set it in the study's base" if "experiment" in FLAGS else ""
            raise UserError(f"{command} takes no --{path}{way}")
        if path.startswith("no"):
            value = "false"
        elif not equals:  # of a bool the name alone
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        out.append(f"--{FIELDS}={path.split('.', 1)[1]}={value}")
    return out


def fields() -> list[str]:
    """What was given of --config.<field>, each as "model.width=64"."""
    return FLAGS[FIELDS].value or []


def given() -> "RunConfig":
    """The config of --config with its fields as the command line says, unresolved.

    Raises ConfigError for a file that gives no config, or a field or value that cannot be.
    """
    from scaling.studies import study

    return changed(study.load_config(FLAGS.config))


def changed(config: "RunConfig") -> "RunConfig":
    """A config with its fields as the command line says; raises as `given`."""
    from scaling.config import LENGTHS, choices, left_out, override
    from scaling.config.nested import from_text

    changes, given = dict[str, Any](), dict[str, str]()
    for text in fields():
        path, _, value = text.partition("=")
        given[path] = value
    # Which fields a group has goes by what is chosen in it.
    chosen = {f"{group}.{room.field}" for group, room in choices.ROOMS.items()} & given.keys()
    shaped = override(config, {path: given[path] for path in sorted(chosen)})
    for path, value in given.items():
        changes[path] = from_text(shaped, path, value)
    lengths = [f"train.{name}" for name in LENGTHS]
    if any(changes.get(name) is not None for name in lengths):
        changes = dict.fromkeys(lengths) | changes
    both = [f"optim.{name}" for name in ("warmup_steps", "warmup_fraction")]
    if all(changes.get(name) is not None for name in both):
        raise ConfigError(f"give one of {' and '.join(both)}, not both")
    for line in left_out(config, changes).values():
        print(line, file=sys.stderr)
    return override(config, changes)
