"""The runs of one unit of data and one objective: what is drawn and found of them, and shown.

A report of several objectives or units has a part for each, for their numbers do not compare.
Takes the table of runs; gives `Part`s, which `build.py` fills, and what the page's template reads
of one. Called by `build.py` and `page.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scaling.records import tables
from scaling.records.conventions import conventions
from scaling.report.figures import Drawn, file_of
from scaling.report.findings import Finding
from scaling.report.optimum import RateFinding
from scaling.report.runs import columns, repeats, rows, trunks
from scaling.report.words import words_of


@dataclass(frozen=True)
class Part:
    """What was found of the runs of one unit and one objective."""

    name: str  # its title; "" for the only one
    prefix: str  # of the names of its files; likewise
    x: str  # main axis
    by: Sequence[str]  # columns each of whose values has a curve of its own
    table: pd.DataFrame
    findings: Sequence[Finding]
    rates: RateFinding | None  # of a study over the learning rate
    figures: Sequence[Drawn]
    draw: Callable[[], Sequence[Drawn]]  # the figures again, in the look that then holds


def divided(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Name, prefix and rows of each part of a table; runs that cannot be read are in the first."""
    groups = list(frame.groupby(["objective", "unit"]))
    if len(groups) < 2:
        return [("", "", frame)]
    unread = frame[frame["objective"].isna()]
    always = tables.columns([])  # data without end have no epochs, and yet the column
    found = list[tuple[str, str, pd.DataFrame]]()
    for (objective, unit), part in groups:
        part = pd.concat([part, unread]).sort_index() if not found else part
        # What other objectives measure, and other units count, is no column of this part.
        none = [c for c in part if part[c].isna().all() and frame[c].notna().any()]
        foreign = [c for c in none if c not in always]
        name = f"{objective} of {unit}s: {words_of(part).of_main()}"
        kept = part.drop(columns=foreign).reset_index(drop=True)
        found.append((name, f"{file_of(objective)}-{unit}s-", kept))
    return found


def shown(part: Part) -> dict[str, Any]:
    """A part as the template reads it."""
    return {
        "name": part.name,
        "x": words_of(part.table).column(part.x),
        "findings": part.findings,
        "rates": part.rates,
        "unfitted": _unfitted(part.findings),
        "repeats": repeats(part.table),
        "trunks": trunks(part.table),
        "columns": columns(part.table),
        "conventions": conventions(part.table),
        "rows": rows(part.table),
        "names": list(part.table["name"]),
        "parameters": parameters(part.findings),
        "methods": sorted({f"{f.fit.level:.0%}: {f.fit.method}" for f in part.findings if f.fit}),
    }


def _unfitted(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """(curves, note) of the curves without a law: one line a note, however many share it."""
    curves: dict[str, list[str]] = {}
    for finding in findings:
        for note in () if finding.fit else finding.notes:
            curves.setdefault(note, []).append(finding.name or "")
    return [(", ".join(filter(None, names)), note) for note, names in curves.items()]


def parameters(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Rows of the table of fitted parameters: on all points, and without the largest."""
    out = []
    for finding in findings:
        fits = [("all points", finding.fit)]
        if finding.holdout is not None:
            fits.append(("without the largest", finding.holdout.fit))
        for points, fit in fits:
            if fit is None:
                continue
            for name, value in fit.params.items():
                low, high = fit.intervals.get(name, (float("nan"), float("nan")))
                out.append(
                    {
                        "fit": f"{finding.name}: {points}" if finding.name else points,
                        "name": name,
                        "value": f"{value:.4g}",
                        "interval": f"{low:.4g} to {high:.4g}" if low == low else "given",
                        "runs": str(fit.n),
                        "status": fit.status,
                    }
                )
    return out
