"""Several small models or one large one: what `launch.py ensemble` wrote, at equal compute.

    python launch.py sweep --experiment=experiments/ensembles.py --workdir=out/ensembles
    python launch.py ensemble --workdir=out/ensembles
    python -m benchmarks.ensembles --table=out/ensembles/ensembles.csv [--figure=FILE]

Prints for every ensemble what one model would have for as many FLOPs, by the straight line in logs
between the two single models beside it. The figure has the loss over FLOPs, and where there are
classes the calibration error; of models that share a beginning, the loss over the number of members
by predictions and by weights.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import of_study
from scaling.report import style


def beside(rows: pd.DataFrame, column: str = "loss") -> pd.DataFrame:
    """Ensembles of predictions, with what a single model has at their FLOPs; NaN: none is as
    large, or as small.
    """
    averaged = rows[rows["how"] == "predictions"]
    single = averaged[averaged["members"] == 1].sort_values("flops")
    several = averaged[averaged["members"] > 1].copy()
    several["single"] = np.exp(
        np.interp(
            np.log(several["flops"]),
            np.log(single["flops"]),
            np.log(single[column]),
            left=np.nan,
            right=np.nan,
        )
    )
    several["gain"] = 1 - several[column] / several["single"]
    return several[["width", "members", "flops", column, "single", "gain"]]


def draw(rows: pd.DataFrame) -> Figure:
    """As the docstring of this file says."""
    shared = rows[["width", "depth"]].drop_duplicates().shape[0] == 1
    numbers = ["loss"]
    if not shared and "calibration_error" in rows:
        numbers.append("calibration_error")
    with style.styled():
        figure = Figure(figsize=(4.8 * len(numbers), 4.6 if shared else 3.8), layout="constrained")
        for axes, number in zip(
            figure.subplots(1, len(numbers), squeeze=False)[0], numbers, strict=True
        ):
            (_shared if shared else _sizes)(axes, rows, number)
            axes.set_ylabel(number.replace("_", " "))
            if not shared:
                axes.legend()
        if shared:
            figure.legend(loc="outside lower center", ncols=2)
        style.finish(figure)
    return figure


def _sizes(axes: Axes, rows: pd.DataFrame, number: str) -> None:
    averaged = rows[rows["how"] == "predictions"]
    single = averaged[averaged["members"] == 1].sort_values("flops")
    axes.plot(single["flops"], single[number], "--", color=style.INK, label="one model")
    for colour, (width, own) in zip(style.COLOURS, averaged.groupby("width"), strict=False):
        own = own.sort_values("members")
        label = f"1 to {own['members'].max()} of width {width}"
        axes.plot(own["flops"], own[number], "o-", color=colour, ms=4, label=label)
    axes.set(xscale="log", xlabel="training FLOPs of all members")


def _shared(axes: Axes, rows: pd.DataFrame, number: str) -> None:
    """The fewer FLOPs a member has of its own, the more of its training is shared."""
    whole = rows.loc[rows["members"] == 1, "amount"].max()
    groups = rows.groupby(["amount", "how"], sort=True)
    amounts = sorted(rows["amount"].unique(), reverse=True)
    for (amount, how), own in groups:
        own = own.sort_values("members")
        axes.plot(
            own["members"],
            own[number],
            "o-" if how == "predictions" else "s:",
            color=style.COLOURS[amounts.index(amount) % len(style.COLOURS)],
            ms=4,
            label=f"{1 - amount / whole:.0%} shared, {how}",
        )
    # Averaged weights that share nothing are no model, and would leave the others no room.
    top = rows.loc[rows["how"] == "predictions", number].max()
    axes.set(xlabel="members", xticks=sorted(rows["members"].unique()))
    axes.set_ylim(rows[number].min() / 1.01, 1.05 * top)


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True, help="that launch.py ensemble wrote")
    parser.add_argument("--figure", type=Path, help="a PNG or SVG to write")
    given = parser.parse_args()
    rows = pd.read_csv(given.table)
    for number in ("loss", "calibration_error"):
        if number in rows and rows["width"].nunique() > 1:
            print(beside(rows, number).to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    if given.figure:
        of_study.write(draw(rows), given.figure)


if __name__ == "__main__":
    main()
