"""The marks that a field of a config may bear: what it has to do with a run's identity and program.

Called by every dataclass of a config; read by `nested.py` (identity) and `programs.py` (which runs
share a program).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

_ABSENT: Any = object()


def execution(default: Any) -> Any:
    """A field of how a run is executed, not of what it computes: left out of the fingerprint."""
    return field(default=default, metadata={"execution": True})


def added(default: Any) -> Any:
    """A field that is younger than some runs: left out of the fingerprint while at its default,
    so that those keep theirs. Its default may never change. Every new field is one.
    """
    return field(default=default, metadata={"added": True})


@dataclass(frozen=True)
class Traced:
    """How a traced field stands in the program that runs share."""

    common: Any  # the value in the place of every value that is on
    off: Any = _ABSENT  # the value that means off, which is the program's; absent: never off
    argument: bool = True  # of the step (else of the initialisation)

    def shared(self, value: Any) -> Any:
        """What stands for the value in the program."""
        return value if self.off is not _ABSENT and value == self.off else self.common


def traced(
    default: Any,
    *,
    common: Any = _ABSENT,
    off: Any = _ABSENT,
    argument: bool = True,
    added: bool = False,
) -> Any:
    """A number that the compiled step takes as an argument: runs that differ in it share a program.

    Args:
      common: what stands for it in the program that they share; by default, its default.
      off: the value that takes what it governs out of the program: it stays as it is.
      argument: False for one that the initialisation takes, and not the step.
      added: as `added`.
    """
    mark = Traced(default if common is _ABSENT else common, off, argument)
    return field(default=default, metadata={"traced": mark} | ({"added": True} if added else {}))


def traced_fields(config: Any) -> Iterator[tuple[str, Traced]]:
    """(name, mark) of the traced fields of a config dataclass, without those of its groups."""
    for one in dataclasses.fields(config):
        if (mark := one.metadata.get("traced")) is not None:
            yield one.name, mark


def in_identity(one: dataclasses.Field, value: Any) -> bool:
    """Whether a field with this value is part of what a run computes."""
    if one.metadata.get("execution"):
        return False
    if not one.metadata.get("added"):
        return True
    return bool(_computed(value) != _default(one))


@functools.cache
def _default(one: dataclasses.Field) -> Any:
    """What it computes where nothing is said of it."""
    default = one.default
    if one.default_factory is not dataclasses.MISSING:
        default = cast(Callable[[], Any], one.default_factory)()
    return _computed(default)


def _computed(value: Any) -> Any:
    """A value, of a group of fields without those of execution, as they are by default."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = [one for one in dataclasses.fields(value) if one.metadata.get("execution")]
    return dataclasses.replace(value, **{one.name: one.default for one in fields})
