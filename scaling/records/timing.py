"""What a run took: seconds a step, to compile, to evaluate, and bytes, by program and device kind.

The loop writes a `Cost` into the run's directory (`cost.json`) and into a folder of the user's that
every workdir profits from; the forecast of a sweep (`executors/forecast.py`) reads them. Runs that
differ only in values that the step takes as arguments share a program, and so a cost.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import files
from scaling.config import RunConfig, choices, to_dict
from scaling.config.programs import program_of
from scaling.data.store import key_of
from scaling.errors import UserError
from scaling.records import RunDirectory

FILE = "cost.json"
_KEPT = 16  # newest costs of a program that are kept in the user's folder


@dataclass(frozen=True)
class Cost:
    """What one process measured of one run, or of its share of a packed group."""

    program: str  # `program`
    device_kind: str
    devices: int
    cores: int | None  # of this machine that the process may use, on CPUs; else None
    members: int  # runs that the program trained at once; step_s is that of all of them
    steps: int  # that step_s is the mean of
    step_s: float  # seconds an update, evaluation, checkpoints and compilation left out
    compile_s: float  # seconds to trace and compile the step (from jax's cache: to read it)
    eval_s: float | None  # seconds an evaluation of every set
    other_s: float  # seconds of everything else: data, initialisation, checkpoints
    device_bytes: int | None  # of one device in a step, as the compiler plans
    flops_per_step: float  # of one member, closed formula
    mfu: float | None  # model FLOPs utilization over those steps

    @property
    def place(self) -> tuple[str, int, int | None]:
        """Where it was measured: device kind, devices, cores."""
        return self.device_kind, self.devices, self.cores


def program(config: RunConfig) -> str:
    """16 hex digits that runs of one program share: all that a resolved run's step time depends on,
    but for the devices.
    """
    shared = program_of(config)
    train = shared.train
    parts: dict[str, Any] = {
        "model": to_dict(shared.model),
        "objective": to_dict(shared.objective),
        "optim": to_dict(shared.optim),
        "mesh": to_dict(shared.mesh),
        "data": choices.kind(shared.data).shapes(shared.data),
        "train": [train.batch_size, train.microbatches, train.steps_per_call, train.xla_flags],
    }
    return key_of(parts)


def cores_here(platform: str) -> int | None:
    """Cores that this process may use, where they are what computes."""
    return len(os.sched_getaffinity(0)) if platform == "cpu" else None


def write(cost: Cost, run: RunDirectory) -> None:
    """Keeps a cost in the run's directory and in the user's folder, for the next workdir. A place
    that cannot be written is no reason to lose a run, and is passed over.
    """
    values = dataclasses.asdict(cost)
    with contextlib.suppress(UserError):
        files.write_atomic(run.path / FILE, json.dumps(values, indent=2).encode() + b"\n")
    with contextlib.suppress(UserError, OSError):
        path = _shared(cost.program)
        files.make_directory(path.parent)
        # The members of a packed group end at once, in several threads; so do runs of a sweep.
        with files.exclusive(path.parent / "lock", wait=5.0):
            known = [dataclasses.asdict(c) for c in _read(path)]
            text = json.dumps([*known, values][-_KEPT:], indent=1)
            files.write_atomic(path, text.encode() + b"\n")


def from_dict(values: Mapping[str, Any]) -> Cost | None:
    """The cost that was written as a dict; None for one of another version of the code."""
    try:
        return Cost(**values)
    except TypeError:
        return None


def of_run(run: RunDirectory) -> Cost | None:
    """The cost that a run's last process measured."""
    found = _read(run.path / FILE)
    return found[-1] if found else None


def known(programs: Iterable[str], runs: Iterable[RunDirectory] = ()) -> dict[str, list[Cost]]:
    """Program -> costs, of the programs given, from the user's folder and from the runs given."""
    wanted = list(dict.fromkeys(programs))
    found = {name: _read(_shared(name)) for name in wanted}
    for cost in filter(None, map(of_run, runs)):
        found.setdefault(cost.program, []).append(cost)
    return {name: list(dict.fromkeys(costs)) for name, costs in found.items() if costs}


def device_bytes(config: RunConfig, device_kind: str, devices: int) -> tuple[float, int] | None:
    """Bytes that each of so many devices needed for runs of this program, by the newest record, and
    how many runs it held; None: there is no record.
    """
    name = program(config)
    records = [
        cost
        for cost in known([name]).get(name, [])
        if cost.device_kind == device_kind and cost.device_bytes and cost.devices == devices
    ]
    if not records:
        return None
    return float(records[-1].device_bytes or 0), -(-records[-1].members // devices)


def _shared(name: str) -> Path:
    return files.data_dir() / "costs" / f"{name}.json"


def _is_whole(cost: Cost) -> bool:
    """Whether what a forecast reckons with are numbers: the file may have been damaged."""
    needed = (cost.devices, cost.members, cost.steps, cost.step_s, cost.compile_s, cost.other_s)
    known = [v for v in (cost.cores, cost.eval_s, cost.device_bytes, cost.mfu) if v is not None]
    return all(isinstance(value, int | float) for value in (*needed, *known))


def _read(path: Any) -> list[Cost]:
    """The costs of a file; one that is missing, or of another version of the code, has none."""
    try:
        values = json.loads(path.read_bytes())
        values = values if isinstance(values, list) else [values]
        return [cost for value in values if _is_whole(cost := Cost(**value))]
    except (OSError, ValueError, TypeError):
        return []
