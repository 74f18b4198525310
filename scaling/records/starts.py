"""The starts of a run: when, where and how it was computed, from which step on.

A run may be begun on one machine and gone on with on another, with other execution fields. The
record in `config.json` has the newest start under `provenance`, `config` and `start`, and those
before it under `starts`. Pure functions of that record, called by `scaling/records/directory.py`;
read by the table, the report and `verify`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.config import RunConfig, from_dict, override, to_dict, to_identity
from scaling.config.nested import flatten

Record = Mapping[str, Any]  # config.json


@dataclass(frozen=True)
class Start:
    """One start, and those after it that differed in nothing."""

    time: str  # of the first of them
    step: int | None  # updates that it went on from; None: it trained nothing
    provenance: Mapping[str, Any]
    execution: Mapping[str, Any]  # every execution field, dotted -> value


def execution_of(config: RunConfig) -> dict[str, Any]:
    """The fields of how a run is executed, dotted -> value."""
    identity = flatten(to_identity(config))
    return {name: v for name, v in flatten(to_dict(config)).items() if name not in identity}


def begun(config: RunConfig, provenance: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The part of a record that is of its newest start."""
    return {
        "provenance": dict(provenance),
        "config": to_dict(config),
        "start": {"time": now, "step": None},
    }


def again(
    record: Record, config: RunConfig, provenance: Mapping[str, Any], now: str
) -> dict[str, Any] | None:
    """The record with one start more; None where it differs in nothing from the newest.

    Args:
      record: of the same run.
      config: resolved.
      provenance: as it is read back from JSON.
      now: the time.
    """
    before, after = execution_of(from_dict(record["config"])), execution_of(config)
    changed = {name: value for name, value in before.items() if value != after[name]}
    if not changed and record["provenance"] == provenance:
        return None
    # `config`: the fields that the next start has otherwise.
    kept = {**_newest(record), "provenance": record["provenance"], "config": changed}
    return {
        **record,
        **begun(config, provenance, now),
        "starts": [*record.get("starts", ()), kept],
    }


def gone_on(record: Record, step: int) -> dict[str, Any] | None:
    """The record whose newest start trains from `step` on; None where it says so already."""
    known = _newest(record)["step"]
    if known is not None and known <= step:
        return None
    return {**record, "start": {**_newest(record), "step": step}}


def _newest(record: Record) -> dict[str, Any]:
    # A record without it is of a version that kept the first start only.
    return record.get("start", {"time": record["created"], "step": 0})


def starts_of(record: Record) -> list[Start]:
    """Every start that differed from the one before, oldest first."""
    execution = execution_of(from_dict(record["config"]))
    newest = _newest(record)
    found = [Start(newest["time"], newest["step"], record["provenance"], execution)]
    for kept in reversed(record.get("starts", ())):
        # A field that was there then may have gone since.
        then = {name: value for name, value in kept["config"].items() if name in execution}
        execution = execution | then
        found.append(Start(kept["time"], kept["step"], kept["provenance"], execution))
    return found[::-1]


def as_trained(record: Record) -> Record:
    """The record with the provenance and the config of the last start that trained; as it is, where
    none did. What the table and the report show.
    """
    if _newest(record)["step"] is not None or not record.get("starts"):
        return record
    trained = [start for start in starts_of(record) if start.step is not None]
    if not trained:
        return record
    config = override(from_dict(record["config"]), trained[-1].execution)
    return {**record, "provenance": trained[-1].provenance, "config": to_dict(config)}


def makers(starts: Sequence[Start], first: int, last: int) -> list[Start | None]:
    """Which starts made the steps after `first` up to `last` as they are recorded, oldest first.

    A start drops what was recorded past the step that it goes on from, so the last one that began
    before a step has made it. None, first in the list, for steps that none has made: those that a
    branch has from its trunk.
    """
    found: list[Start | None] = []
    for step in range(first + 1, last + 1):
        before = [start for start in starts if start.step is not None and start.step < step]
        maker = before[-1] if before else None
        if maker not in found:
            found.append(maker)
    return found
