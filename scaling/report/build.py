"""From run directories to a folder with a table, figures and one page.

Takes a workdir or run directories, and the `Study` they belong to if there is one; writes
`index.html`, `table.*` and `figures/`. Called by `launch.py report` and after a sweep. Reads what
is recorded, trains nothing.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from etils import epath

from scaling import files
from scaling.config import flat
from scaling.config.sweep import DELTA, Study
from scaling.errors import DamagedError, UserError
from scaling.records import RunDirectory, find_runs, strict_json
from scaling.records.starts import as_trained
from scaling.records.tables import curves, table, write_table
from scaling.report import figures
from scaling.report.against import against_figures
from scaling.report.axes import (
    check_axis,
    curves_of,
    done,
    figure_axes,
    group_of,
    is_rate,
    main_axis,
)
from scaling.report.figures import Drawn
from scaling.report.findings import Finding, find, fitted_apart
from scaling.report.judged import judged_figures
from scaling.report.laws import backtests
from scaling.report.optimum import RateFinding, find_rates
from scaling.report.page import Page, render
from scaling.report.paper import Paper, write_paper
from scaling.report.parts import Part, divided
from scaling.report.rate_figures import law_figure, valleys_figure
from scaling.report.sets import gap_figure, pass_figures, sets_figure
from scaling.report.training import curves_figure
from scaling.report.watch import write_page
from scaling.report.words import words_of


def report(
    source: epath.PathLike | Iterable[RunDirectory],
    out: epath.PathLike | None = None,
    *,
    study: Study | None = None,
    title: str | None = None,
    x: str | None = None,
    law: str | None = None,
    holdout: bool | None = None,
    paper: Paper | None = None,
) -> epath.Path:
    """Writes the report and gives the path of its `index.html`.

    Args:
      source: a workdir, or run directories; those that were never begun are named as missing.
      out: folder; None: `<workdir>/report`, and below it the study's name.
      study: its title, axis, law, curves; each can be given instead by the next four.
      title: of the page.
      x: column of the table that the law runs over, or "auto": what the runs vary.
      law: key of `scaling.laws.LAWS`.
      holdout: fit without the largest `x` and score the fit on it.
      paper: figures and tables for one, in `figures/paper/` and `tables/`, besides.

    Raises UserError when no run has begun, or `x` is no numeric column of the table.
    """
    if isinstance(source, str | epath.Path) or hasattr(source, "__fspath__"):
        source, workdir = find_runs(source), epath.Path(source)
    else:
        source = list(source)
        workdir = source[0].path.parent.parent if source else epath.Path(".")
    begun = [run for run in source if (run.path / "config.json").exists()]
    if not begun:
        raise UserError(
            f"{workdir} holds no run that has begun; train some first: "
            "python launch.py sweep --experiment=..."
        )
    if out is None:
        out = workdir / "report" / (study.name if study else "")
    out, frame = epath.Path(out), table(begun)
    facts = write_table(frame, out)
    lines, damaged = _curves(begun)
    asked = _Asked(
        x=x or (study.x if study else "auto"),
        by=study.groups if study else (),
        law=law or (study.law if study else "power_floor"),
        test=holdout if holdout is not None else study.holdout if study else True,
        delta=study.delta if study else DELTA,
        log_x=study is None or study.log_x,
    )
    parts = [_part(*found, begun, lines, asked) for found in divided(frame)]
    if paper is not None:
        write_paper(paper, parts, out)
    for part in parts:
        for figure in part.figures:
            figures.save(figure, out / "figures")
        if part.rates is not None:
            stored = strict_json.encode(part.rates.as_json(), indent=2)
            files.write_atomic(out / f"{part.prefix}optimum.json", stored)
    readable = [run for run in begun if _config(run) is not None]
    records = {run.path.name: as_trained(run.record()) for run in readable}
    configs = {run.path.name: run.config(records[run.path.name]) for run in readable}
    watched = write_page(lines, out)
    off = [line for part in parts for line in _off_the_axis(part.table, part.x)]
    page = Page(
        title=title or (study.name if study else workdir.name or "Scaling study"),
        question=study.question if study else "",
        table=frame,
        facts={**facts, "warnings": [*facts["warnings"], *damaged, *off]},
        parts=parts,
        watched=watched,
        configs={name: flat(config) for name, config in configs.items()},
        records=records,
        curves=lines,
        begun=begun,
        missing=[run for run in source if run not in begun],
    )
    files.write_atomic(out / "index.html", render(page).encode())
    return out / "index.html"


@dataclass(frozen=True)
class _Asked:
    """What a report is to show; see `report` and `Study`."""

    x: str  # a column, or "auto"
    by: tuple[str, ...]
    law: str
    test: bool
    delta: float
    log_x: bool


def _part(
    name: str,
    prefix: str,
    frame: pd.DataFrame,
    begun: list[RunDirectory],
    lines: Mapping[str, pd.DataFrame],
    asked: _Asked,
) -> Part:
    """Findings and figures of the runs of one unit and one objective."""
    words = words_of(frame)
    x = words.column(asked.x)
    if x != "auto":
        frame = _with_field(frame, begun, x)
    if x == "auto" or (name and x not in frame):  # of several parts one may lack a column
        x = main_axis(frame)
    check_axis(frame, x)
    by = tuple(words.column(column) for column in asked.by)
    by = by or group_of(frame, x)
    for column in by:
        frame = _with_field(frame, begun, column)
    if name:
        by = tuple(column for column in by if column in frame)
    rates = find_rates(frame, x, by) if is_rate(x) else None
    if rates is not None:
        found = list[Finding]()
        drawings = _drawings_of_rates(frame, lines, by, rates, asked.log_x)
    else:
        fitted = functools.partial(find, law=asked.law, test=asked.test, delta=asked.delta)
        # Over a learning rate the loss has a minimum, and no law.
        found = [
            fitted(curve.rows, x, name=curve.name, rolling=asked.test)
            for curve in curves_of(frame, x, fitted_apart(frame, asked.law, x, by))
        ]
        drawings = list(_drawings(frame, lines, x, by, found, fitted, asked.log_x))

    def draw() -> list[Drawn]:
        return [replace(one, name=prefix + one.name) for drawing in drawings for one in drawing()]

    return Part(name, prefix, x, by, frame, found, rates, draw(), draw)


def _with_field(frame: pd.DataFrame, runs: list[RunDirectory], field: str) -> pd.DataFrame:
    """The table with a column for a config field that is the same in all runs so far."""
    if field in frame:
        return frame
    values = {run.path.name: config for run in runs if (config := _config(run)) is not None}
    if not values or not all(field in config for config in values.values()):
        return frame
    return frame.assign(**{field: [values.get(name, {}).get(field) for name in frame["name"]]})


def _config(run: RunDirectory) -> dict[str, Any] | None:
    """Its fields, dotted -> value; None where they cannot be read."""
    try:
        return flat(run.config())
    except DamagedError:
        return None


def _curves(runs: list[RunDirectory]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Curves by run, without lines that cannot be read, and a sentence for each run with some."""
    found, damaged = {}, []
    for run in runs:
        if _config(run) is not None:
            lines, text = run.intact()
            found[run.path.name] = curves(run, lines)
            damaged += [f"Not in its curves: {text}."] if text else []
    return found, damaged


# Draws some of the figures of a part, in the look that holds.
_Drawing = Callable[[], Iterable[Drawn]]


def _drawings(
    frame: pd.DataFrame,
    lines: Mapping[str, pd.DataFrame],
    x: str,
    by: tuple[str, ...],
    found: list[Finding],
    fit: Callable[[pd.DataFrame, str], Finding],
    log_x: bool,
) -> Iterable[_Drawing]:
    """What is fitted is fitted here; what is drawn is drawn once for every look."""
    for column in figure_axes(frame, x):
        if done(frame, column).empty:
            continue
        apart = by if column == x else group_of(frame, column)
        finding = found[0] if column == x else fit(frame, column)
        fitted: dict[str, Any] = {}
        if not apart and finding.drawable and not (column != x and _unsure(finding)):
            fitted = {"fit": finding.fit, "holdout": finding.holdout}
        log = log_x or column != x
        yield _one(figures.loss_figure, frame, column, **fitted, by=apart, log_x=log)
        if column == x and not apart and finding.backtest is not None:
            yield _one(backtests, finding.backtest)
    yield _one(curves_figure, lines, frame, x)
    yield _one(sets_figure, frame, x, log_x, by)
    yield _one(gap_figure, frame, x, log_x, by)
    yield functools.partial(pass_figures, frame, x, log_x, by)
    yield functools.partial(against_figures, frame, x)
    yield functools.partial(judged_figures, frame, x, log_x, by)


def _one(draw: Callable[..., Drawn | None], *args: Any, **kwargs: Any) -> _Drawing:
    """Of a figure that there may be none of."""

    def drawing() -> list[Drawn]:
        drawn = draw(*args, **kwargs)
        return [] if drawn is None else [drawn]

    return drawing


def _off_the_axis(frame: pd.DataFrame, x: str) -> list[str]:
    """A sentence on runs that are done and have no place on the axis: a field that is off."""
    finished = done(frame)
    off = int(finished[x].isna().sum())
    if not off:
        return []
    has = "1 run has" if off == 1 else f"{off} runs have"
    return [f"{has} {x}=None, which is no place on an axis: in the table, not in the figures."]


def _drawings_of_rates(
    frame: pd.DataFrame,
    lines: Mapping[str, pd.DataFrame],
    by: Sequence[str],
    rates: RateFinding,
    log_x: bool,
) -> list[_Drawing]:
    coloured = rates.size if rates.size is not None else rates.x
    return [
        _one(valleys_figure, rates, log_x),
        _one(figures.loss_figure, frame, rates.x, by=by, log_x=log_x),
        _one(law_figure, rates),
        _one(curves_figure, lines, frame, coloured),
    ]


def _unsure(finding: Finding) -> bool:
    """A law that the data do not determine is shown only where the study asked for it."""
    return finding.fit is not None and finding.fit.status != "interior"
