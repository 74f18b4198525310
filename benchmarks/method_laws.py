"""The laws of three methods on the runs of their studies: weights that are left, bits, a teacher.

    python launch.py sweep --experiment=experiments/pruning.py:law
    python launch.py sweep --experiment=experiments/quantization.py:law
    python launch.py sweep --experiment=experiments/distillation.py:law
    python -m benchmarks.method_laws --workdir=out [--figure=FILE]

Takes of each study the runs that have ended. Fits its law to them all, and prints the parameters
with 90 % intervals; then to all but the widest models, and prints how far these are from what is
predicted of them, and how many are within their intervals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from scaling import laws
from scaling.laws import Fit
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study

# A seed moves the loss of such a model by half a percent: less than that is no outlier.
OPTIONS = laws.Options(delta=0.01)


@dataclass(frozen=True)
class Method:
    """One study and its law."""

    experiment: str
    law: str
    x: str  # column of the law that the study is about
    label: str
    columns: Callable[[pd.DataFrame], pd.DataFrame]  # of the law, from those of the table
    ticks: tuple[float, ...] = ()  # of a logarithmic axis; none: a linear one


def _whole(runs: pd.DataFrame) -> pd.DataFrame:
    """Of weights that are not rounded, as many bits as a float32 has."""
    return runs.assign(bits=runs["bits"].fillna(32.0))


def _left(runs: pd.DataFrame) -> pd.DataFrame:
    """The law counts the parameters that are not zero."""
    return runs.assign(params=runs["params"] * runs["density"])


def _taught(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["supervised_loss"].notna()]


METHODS = (
    Method("experiments/pruning.py:law", "sparsity", "density", "share of weights left", _left,
           (0.25, 0.35, 0.5, 0.7, 1.0)),
    Method("experiments/quantization.py:law", "precision", "bits", "bits of a weight", _whole,
           (2, 3, 4, 6, 32)),
    Method("experiments/distillation.py:law", "distillation", "teacher_loss", "loss of the teacher",
           _taught),
)  # fmt: skip


def of(method: Method, workdir: str) -> pd.DataFrame:
    """The runs of a study that have ended, with the law's columns; no rows: there are none."""
    done = of_study.finished(study.load_study(method.experiment), workdir)
    if not done:
        return pd.DataFrame()
    return method.columns(table([run for _, run in done])).reset_index(drop=True)


def held_out(method: Method, runs: pd.DataFrame) -> pd.DataFrame:
    """The widest models beside what a fit of the others predicts of them, with 90 % intervals."""
    widest = runs["width"] == runs["width"].max()
    told = laws.fit(runs[~widest], method.law, OPTIONS).predict(runs[widest])
    out = runs.loc[widest, ["width", "tokens", method.x, "loss"]]
    out = out.assign(predicted=told.mean, low=told.low, high=told.high)
    return out.assign(inside=(out["loss"] >= out["low"]) & (out["loss"] <= out["high"]))


def say(method: Method, fit: Fit, runs: pd.DataFrame, beyond: pd.DataFrame) -> None:
    """Prints one method."""
    off = np.log(runs["loss"] / fit.draws(runs)[0])
    print(f"{method.law}: {fit.n} runs of {method.experiment}, {fit.status}; ", end="")
    print(f"the runs lie {100 * np.sqrt((off**2).mean()):.2f} % about it")
    for name, value in fit.params.items():
        low, high = fit.intervals[name]
        print(f"  {name:6s} {value:10.4g}  ({low:.4g} to {high:.4g})")
    errors = np.log(beyond["predicted"] / beyond["loss"])
    print(
        f"  width {beyond['width'].iloc[0]} from the others: {beyond['inside'].sum()} of "
        f"{len(beyond)} within their intervals, {100 * errors.mean():+.1f} % on average, "
        f"{100 * errors.abs().max():.1f} % at most; intervals "
        f"{100 * ((beyond['high'] - beyond['low']) / beyond['loss']).median():.1f} % wide"
    )


def draw(found: list[tuple[Method, Fit, pd.DataFrame]]) -> Figure:
    """A panel a method: the loss over what it is about, at the greatest length of each width."""
    with style.styled():
        figure = Figure(figsize=(4.3 * len(found), 3.7), layout="constrained")
        for axes, (method, fit, runs) in zip(
            figure.subplots(1, len(found), squeeze=False)[0], found, strict=True
        ):
            for colour, (width, own) in zip(style.COLOURS, runs.groupby("width"), strict=False):
                rows = own[own["tokens"] == own["tokens"].max()].sort_values(method.x)
                axes.plot(rows[method.x], rows["loss"], "o", color=colour, label=f"width {width}")
                space = np.geomspace if method.ticks else np.linspace
                x = space(rows[method.x].min(), rows[method.x].max(), 100)
                axes.plot(x, fit.draws(_along(method, rows, x))[0], color=colour)
            axes.set(xlabel=method.label, title=method.law, ylabel="validation loss")
            if method.ticks:
                axes.set_xscale("log")
                axes.set_xticks(method.ticks, [f"{tick:g}" for tick in method.ticks])
                axes.minorticks_off()
            axes.legend()
        style.finish(figure)
    return figure


def _along(method: Method, rows: pd.DataFrame, x: np.ndarray) -> dict[str, Any]:
    """The law's columns where one of them is `x`, and the others are those of the rows."""
    first = rows.iloc[0]
    at = {name: np.full(len(x), first[name]) for name in ("params", "tokens")}
    if method.law == "sparsity":
        at["params"] = first["params"] / first["density"] * x
    if method.law == "distillation":
        at["supervised_loss"] = np.full(len(x), first["supervised_loss"])
    return at | {method.x: x}


def main() -> None:
    """Prints the fits, and draws them if a figure is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = []
    for method in METHODS:
        runs = of(method, given.workdir)
        if len(runs):
            fit = laws.fit(runs, method.law, OPTIONS)
            say(method, fit, runs, held_out(method, runs))
            found.append((method, fit, runs))
    if not found:
        raise of_study.nothing(given.workdir, "the studies above")
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
