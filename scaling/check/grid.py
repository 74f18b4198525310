"""Every run of a sweep, checked: each distinct program is compiled once.

Runs that differ only in hyper-parameters, seeds or length are one program. Takes resolved runs and
a target; gives a row a run. Called by `launch.py sweep --check`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.check.report import Report, as_dict
from scaling.check.text import short
from scaling.config import EvalsConfig, RunConfig, programs, run_name
from scaling.errors import UserError
from scaling.units import binary


@dataclass(frozen=True)
class Row:
    """One run of the sweep."""

    config: RunConfig
    report: Report | None  # of its program, perhaps compiled for an earlier run
    shared: bool  # with an earlier run
    problem: str | None  # why there is no report

    @property
    def fits(self) -> bool:
        """Whether the run can start."""
        return self.report is not None and self.report.fits


def shape_of(config: RunConfig) -> RunConfig:
    """What is left of a run when everything that its program does not depend on is set aside.

    A field that is not known here counts as part of the program: then it is compiled once more than
    needed.
    """
    return dataclasses.replace(
        programs.program_of(config),
        data=programs.any_examples(config),
        evals=EvalsConfig(batch_size=config.evals.batch_size),
    )


def check_all(configs: Sequence[RunConfig], check: Callable[[RunConfig], Report]) -> Iterator[Row]:
    """A row for every run, in order; a program that was seen before is not compiled again.

    A mesh or batch that does not divide is a row's problem, not the end.
    """
    # RunConfig holds mappings, so it has no hash.
    known: list[tuple[RunConfig, Report | None, str | None]] = []
    for config in configs:
        shape = shape_of(config)
        for other, report, problem in known:
            if other == shape:
                yield Row(config, report, True, problem)
                break
        else:
            found, why = None, None
            try:
                found = check(config)
            except UserError as error:
                why = str(error)
            known.append((shape, found, why))
            yield Row(config, found, False, why)


def line(row: Row) -> str:
    """One line of the table."""
    name = run_name(row.config)
    if row.report is None:
        return f"REFUSED       {name}  {row.problem}"
    report = row.report
    word = "fits" if report.fits else "DOES NOT FIT"
    times = ""
    if report.roofline is not None and report.target.chip is not None:
        step = report.roofline.overlapped
        mfu = report.mfu(step)
        times = f"  step {short(step)}" + (f"  MFU {mfu:.0%}" if mfu else "")
    how = "same program" if row.shared else f"compiled in {report.compiled.seconds:.0f} s"
    how = "from the cache" if report.cached and not row.shared else how
    size = f"{binary(report.compiled.needs)} of {binary(report.limit)}"
    return f"{word:13s} {name}  {size}{times}  ({how})"


def summary(rows: Sequence[Row]) -> str:
    """The last line: "12 runs, 3 programs; 2 do not fit"."""
    programs = sum(not row.shared for row in rows)
    failing = sum(not row.fits for row in rows)
    verdict = f"{failing} do not fit" if failing else "all fit"
    return f"{len(rows)} runs, {programs} programs; {verdict}"


def as_list(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """JSON values: a report for each program; runs that share it name that run."""
    out: list[dict[str, Any]] = []
    for row in rows:
        own = {"run": run_name(row.config), "fits": row.fits}
        if row.report is None:
            out.append(own | {"problem": row.problem})
        elif row.shared:
            out.append(own | {"same_program_as": run_name(row.report.config)})
        else:
            out.append(as_dict(row.report) | own)
    return out
