"""A report's figures and tables for a paper: PDF with real text in a column's width; LaTeX and
Markdown.

Takes the parts of a report; writes `figures/paper/` and `tables/`. Called by `build.py` and, for
the figures of a fit, by `laws.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from etils import epath
from scipy import stats

from scaling import files
from scaling.report import figures, looks
from scaling.report.axes import curves_of, means
from scaling.report.parts import Part, parameters
from scaling.report.words import Words, words_of

LEVEL = 0.9
NOTE = f"± is half the {LEVEL:.0%} interval of the mean over seeds (Student's t)."


@dataclass(frozen=True)
class Paper:
    """What is asked for: formats of figures, in which look; whether tables are."""

    formats: Sequence[str] = ()  # of looks.FORMATS
    look: looks.Look = looks.SCREEN
    tables: bool = False

    def save(self, drawn: Sequence[figures.Drawn], folder: epath.Path) -> list[epath.Path]:
        """Writes figures that were drawn in this look."""
        return [path for one in drawn for path in figures.save(one, folder, self.formats)]


def write_paper(paper: Paper, parts: Sequence[Part], out: epath.Path) -> list[epath.Path]:
    """Writes what is asked for; gives the paths."""
    paths = []
    if paper.formats:
        with looks.drawn_for(paper.look):
            for part in parts:
                paths += paper.save(part.draw(), out / "figures" / "paper")
    for part in parts if paper.tables else ():
        for name, table in tables(part).items():
            files.make_directory(out / "tables")
            note = NOTE if name == "points" else ""
            for kind, text in (("tex", latex(table, note)), ("md", markdown(table, note))):
                path = out / "tables" / f"{part.prefix}{name}.{kind}"
                files.write_atomic(path, text.encode())
                paths.append(path)
    return paths


def tables(part: Part) -> dict[str, pd.DataFrame]:
    """Name -> table of texts, of those that the part has rows for: points (means over seeds), laws
    (fitted parameters), predictions (of the held-out points).
    """
    found = {
        "points": pd.DataFrame(_points(part)),
        "laws": pd.DataFrame(parameters(part.findings)).rename(columns={"fit": "fitted to"}),
        "predictions": pd.DataFrame(_predictions(part)),
    }
    return {name: table for name, table in found.items() if len(table)}


def _points(part: Part) -> Iterator[Mapping[str, str]]:
    """A row a point of a curve: every metric's mean over seeds, with Student's interval."""
    words = words_of(part.table)
    metrics = [c for c in words.metrics if c in part.table and part.table[c].notna().any()]
    for curve in curves_of(part.table, part.x, part.by):
        values = {metric: means(curve.rows, part.x, metric).set_index(part.x) for metric in metrics}
        for at, of in values[metrics[0]].iterrows() if metrics else ():
            row = {words.label(c): text for c, text in zip(curve.by, curve.labels, strict=True)}
            row[words.label(part.x)] = words.texts(part.x, [at])[0]
            row["runs"] = str(int(of["count"]))
            for metric, table in values.items():
                row[words.label(metric)] = _mean(table.loc[at]) if at in table.index else ""
            yield row


def _mean(of: pd.Series) -> str:
    """ "1.234 ± 0.012"; of one run, the number."""
    if of["count"] < 2:
        return f"{of['mean']:.4g}"
    half = stats.t.ppf((1 + LEVEL) / 2, of["count"] - 1) * of["std"] / np.sqrt(of["count"])
    digits = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 4
    return f"{of['mean']:.{digits}f} ± {half:.{digits}f}"


def _predictions(part: Part) -> Iterator[Mapping[str, str]]:
    words: Words = words_of(part.table)
    for finding in part.findings:
        test = finding.holdout
        if test is None:
            continue
        row = {"curve": finding.name} if finding.name else {}
        row["held out"] = f"{words.texts(part.x, [test.held_out[part.x].max()])[0]}"
        row["predicted"] = f"{test.predicted:.4f}"
        row[f"{test.level:.0%} interval"] = f"{test.low:.4f} to {test.high:.4f}"
        row["measured"] = f"{test.actual:.4f}"
        row["held"] = "yes" if test.within else "no"
        yield row


def markdown(table: pd.DataFrame, note: str = "") -> str:
    """A table of texts."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    text = "".join(f"| {' | '.join(line)} |\n" for line in cells)
    return f"{text}\n{note}\n" if note else text


def latex(table: pd.DataFrame, note: str = "") -> str:
    """The same as a tabular of booktabs, below the command that made it."""
    text = table.to_latex(index=False, escape=True, column_format="l" * len(table.columns))
    text = text.replace("±", "\\ensuremath{\\pm}")
    return "".join(f"% {line}\n" for line in (looks.made_by(), note) if line) + text
