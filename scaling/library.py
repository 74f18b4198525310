"""What `import scaling` gives to a notebook: frames in, frames, laws and figures out.

Each function is a few lines over what the commands `report`, `fit` and `plan` call themselves, so
that numbers agree with theirs. Nothing is written to disk.
"""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from etils import epath

from scaling.errors import UserError
from scaling.laws.table import read_file, shape_table
from scaling.records import find_runs, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaling.laws.planning import Plan
    from scaling.laws.result import Fit


def runs(
    source: epath.PathLike, *, where: str = "", columns: str = "", derive: str = ""
) -> pd.DataFrame:
    """A table with a row a run, as `launch.py fit` reads it.

    Args:
      source: a workdir, whose runs are read as they stand now, or a table in a file (text, Parquet,
        JSON), anybody's.
      where: rows to keep, "status == 'done' and width >= 64".
      columns: new names of a file's columns, "params=Model Size,loss=Loss".
      derive: further columns, "tokens=flops/(6*params)".

    Raises UserError for a workdir without runs, a file that is no table, or an unknown column.
    """
    if epath.Path(source).is_dir():
        found = find_runs(source)
        if not found:
            raise UserError(f"{source} has no runs; sweep or train there first")
        frame = tables.table(found)
    else:
        frame, _ = read_file(pathlib.Path(source))
    return shape_table(frame, columns=columns, derive=derive, where=where)[0]


def curves(workdir: epath.PathLike, *, where: str = "") -> pd.DataFrame:
    """Every line of the metrics of a workdir's runs: `name` of the run, `step`, `split` ("train" or
    an evaluation set), `loss`, `amount` of data seen, and what else was measured.

    `where` chooses runs, as in `runs`.
    """
    kept = set(runs(workdir, where=where)["name"])
    found = [run for run in find_runs(workdir) if run.path.name in kept]
    frames = [tables.curves(run).assign(name=run.path.name) for run in found]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["name"])


def fit(frame: pd.DataFrame, law: str = "power_floor", **options: Any) -> "Fit":
    """A law fitted to a table of runs; printing it gives parameters, intervals and doubts.

    Args:
      frame: as `runs` gives it, or any with the columns that the law reads. Rows without a loss,
        such as runs that are not done, are left out.
      law: a key of `scaling.laws.LAWS`.
      options: fields of `scaling.laws.Options`: x="params", bootstrap=1000, level=0.9, ...

    Raises UserError for a table that the law cannot be fitted to.
    """
    from scaling.laws import Options, fitting

    return fitting.fit(frame, law, Options(**options))


def predict(fitted: "Fit | epath.PathLike", level: float | None = None, **at: Any) -> pd.DataFrame:
    """What a law says of one more run: `at` as columns, then the loss with its interval, `low` and
    `high`.

    Args:
      fitted: of `fit`, or a fit.json (or its folder) of `launch.py fit --out`.
      level: of the interval; None: the fit's.
      at: a number or a sequence for each column of the law, params=[1e9, 1e10], tokens=2e10.

    Raises UserError for a column that is missing or unknown, or a fit that cannot predict.
    """
    fitted = _fit(fitted)
    missing, unknown = {*fitted.x.values()} - {*at}, {*at} - {*fitted.x.values()}
    if missing or unknown:
        word, names = ("needs", missing) if missing else ("does not read", unknown)
        reads = ", ".join(fitted.x.values())
        raise UserError(f"{fitted.law} {word} {', '.join(sorted(names))}; it reads {reads}")
    many = [len(v) for v in at.values() if isinstance(v, Sequence) or hasattr(v, "__len__")]
    frame = pd.DataFrame(at, index=range(max(many, default=1)))
    by_law = {name: frame[column].to_numpy(float) for name, column in fitted.x.items()}
    found = fitted.predict(by_law, level=level)
    return frame.assign(**{fitted.loss: found.mean, "low": found.low, "high": found.high})


def plan(fitted: "Fit | epath.PathLike", flops: float, **how: Any) -> "Plan":
    """The compute-optimal run of a training budget: `.params`, `.amount` (of data) and `.loss`,
    each with `value`, `low` and `high`, and `.other_sizes`, a frame.

    Args:
      fitted: of `fit` with a law of params and data (law="chinchilla"), or its fit.json.
      flops: of the planned training.
      how: `scaling.laws.planning.plan` has more: inference=..., unique=..., level=...

    Raises UserError where the law has no optimum.
    """
    from scaling.laws import planning

    return planning.plan(_fit(fitted), flops, **how)


def draw(frame: pd.DataFrame, fitted: "Fit | None" = None, x: str | None = None) -> "Figure":
    """A figure of runs and their law: loss against `x`, with the law and its band; the contours of
    a law of params and data; of other laws, how far each run lies off. A notebook shows it.

    Args:
      frame: as `runs` gives it; of a table from elsewhere, only laws of several columns are drawn.
      fitted: of `fit`; None: the runs alone.
      x: column of the horizontal axis; None: the law's, or what the runs differ in most.

    Raises UserError when x is no column of numbers.
    """
    from scaling.report import axes, figures, laws

    columns = {} if fitted is None else fitted.x
    if fitted is not None and {*columns} != {"x"}:
        known = frame[pd.to_numeric(frame[fitted.loss], errors="coerce").notna()]
        both = {*columns} == {"params", "tokens"} and fitted.loss == "loss"
        return _shown((laws.contours if both else laws.residuals)(fitted, known).figure)
    x = x or columns.get("x") or axes.main_axis(frame)
    axes.check_axis(frame, x)
    return _shown(figures.loss_figure(frame, x, fitted, by=axes.group_of(frame, x)).figure)


def _shown(figure: "Figure") -> "Figure":
    """The figure, which a notebook shows: pyplot, which would tell it how, is not imported."""
    from scaling.report import style

    setattr(figure, "_repr_png_", lambda: style.encode(figure, "png"))  # noqa: B010
    return figure


def _fit(given: "Fit | epath.PathLike") -> "Fit":
    """A fit as it is, or read from its file."""
    from scaling.laws.result import Fit

    if isinstance(given, Fit):
        return given
    path = epath.Path(given)
    path = path / "fit.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such fit; `launch.py fit --out=DIR` writes one")
    return Fit.from_json(path.read_text())
