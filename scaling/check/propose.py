"""What would make a step fit: other ways to run it, tried one after the other by real compiles.

Takes the report of a run that does not fit; gives the first proposal that does, with the flags to
pass. Only fields of how a run is executed change, so it stays the same run. Called by
`scaling/commands`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scaling.check.report import Report
from scaling.config import RunConfig, override
from scaling.devices import meshes
from scaling.errors import ConfigError


@dataclass(frozen=True)
class Attempt:
    """One proposal and what the compiler said of it."""

    changes: dict[str, Any]  # dotted config field -> value
    report: Report | None  # None: it cannot be
    problem: str | None = None  # why there is no report

    @property
    def fits(self) -> bool:
        """Whether the compiler found room."""
        return self.report is not None and self.report.fits

    @property
    def flags(self) -> str:
        """To be added to the command."""
        return " ".join(f"--config.{name}={value}" for name, value in self.changes.items())


def candidates(report: Report) -> Iterator[dict[str, Any]]:
    """Changes to try, cheapest first.

    Parameters over all of the data axis costs communication that can hide behind compute; to
    compute blocks again costs a third more FLOPs; microbatches keep the devices less busy and
    gather the parameters again for each.
    """
    config, mesh = report.config, report.mesh
    fsdp: dict[str, Any] = {}
    if mesh["data"] > 1:
        fsdp = {"mesh.data": 1, "mesh.fsdp": mesh["fsdp"] * mesh["data"]}
        yield fsdp
    remat: dict[str, Any] = {}
    if config.model.remat != "full":
        remat = {"model.remat": "full"}
        yield remat
        if fsdp:
            yield fsdp | remat
    rows = config.train.batch_size // math.prod(mesh[axis] for axis in meshes.BATCH_AXES)
    pieces = config.train.microbatches * 2
    while pieces <= rows and rows % pieces == 0:
        yield fsdp | remat | {"train.microbatches": pieces}
        pieces *= 2


def propose(
    report: Report,
    check: Callable[[RunConfig], Report],
    tried: Callable[[Attempt], None] = lambda attempt: None,
) -> Attempt | None:
    """The first of `candidates` that fits, or None; each is compiled by `check` and then told to
    `tried`. One that does not divide the run's sizes is told too, and passed over.
    """
    for changes in candidates(report):
        try:
            attempt = Attempt(changes, check(override(report.config, changes)))
        except ConfigError as error:
            attempt = Attempt(changes, None, str(error))
        tried(attempt)
        if attempt.fits:
            return attempt
    return None
