"""What an optimizer or a schedule is worth in compute: the study of a workdir.

    python launch.py sweep --experiment=experiments/optimizers.py --workdir=out
    python -m benchmarks.optimizers --workdir=out [--schedules] [--figure=optimizers.png]

Each is judged at its own best learning rate (`laws/optimum.py`). The first of them was trained at
half, once and twice the length: by a line through the logarithms of its steps and losses, a lower
loss is so many of its steps, and the ratio of these to the steps that were made is what the other
is worth. Prints the ratios by width, and the power of the width that they change with, with
90 % intervals of the noise about the curves over the learning rate.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import of_study
from experiments.optimizers import get_study
from scaling.laws.optimum import optima
from scaling.records.tables import table
from scaling.report import style

LEVEL = 0.9
_TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)


def best(frame: pd.DataFrame, field: str) -> pd.DataFrame:
    """A row a name, width and length: the least loss over rates, its error, and what is said."""
    keys, curves = [], []
    for key, rows in frame.groupby([field, "width", "steps"], sort=False):
        keys.append(key)
        curves.append((rows["optim.peak_lr"].to_numpy(), rows["loss"].to_numpy()))
    found = optima(curves, LEVEL)
    noise = []
    for optimum, (rate, loss) in zip(found, curves, strict=True):
        near = (rate >= optimum.fitted[0] * 0.99) & (rate <= optimum.fitted[1] * 1.01)
        free = near.sum() - len(optimum.coefficients)
        if optimum.coefficients and free > 0:
            left = (loss - optimum.at(rate))[near]
            noise.append(np.sum(left**2) / free / optimum.loss**2)
    sd = float(np.sqrt(np.mean(noise))) if noise else float("nan")
    rows = [
        {"name": name, "width": width, "steps": steps, "rate": one.rate, "loss": one.loss,
         "sd": sd * one.loss / np.sqrt(2), "note": one.refused}
        for (name, width, steps), one in zip(keys, found, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def worth(found: pd.DataFrame, reference: str) -> pd.DataFrame:
    """log of the ratio of steps, and its standard deviation, of every other name and width."""
    steps = found.loc[found["name"] != reference, "steps"].iloc[0]
    rows = []
    for width, of_width in found.groupby("width"):
        own = of_width[of_width["name"] == reference]
        slope, start = np.polyfit(np.log(own["loss"]), np.log(own["steps"]), 1)
        for one in of_width[of_width["name"] != reference].itertuples():
            log_ratio = start + slope * np.log(one.loss) - np.log(steps)
            sd = abs(slope) * one.sd / one.loss * np.sqrt(2)
            rows.append({"name": one.name, "width": width, "log": log_ratio, "sd": sd})
    return pd.DataFrame(rows)


def trend(rows: pd.DataFrame) -> tuple[float, float]:
    """The power of the width that the ratio changes with, and half its interval."""
    x = np.log(rows["width"].to_numpy(float))
    slope, _ = np.polyfit(x, rows["log"], 1)
    error = float(rows["sd"].mean() / np.sqrt(np.sum((x - x.mean()) ** 2)))
    return float(slope), float(stats.norm.ppf((1 + LEVEL) / 2) * error)


def draw(rows: pd.DataFrame, reference: str) -> Figure:
    """The ratios over the width."""
    with style.styled():
        figure, (axes,) = style.new_figure()
        for place, (name, own) in enumerate(rows.groupby("name", sort=False)):
            colour, marker = style.COLOURS[place % len(style.COLOURS)], style.MARKERS[place]
            error = stats.norm.ppf((1 + LEVEL) / 2) * own["sd"]
            ratio = np.exp(own["log"])
            ends = [ratio - np.exp(own["log"] - error), np.exp(own["log"] + error) - ratio]
            axes.errorbar(own["width"], ratio, ends, marker=marker, color=colour, label=str(name))
        axes.axhline(1, color=style.INK, lw=1, ls=(0, (2, 2)))
        axes.set(xscale="log", yscale="log", xlabel="width (channels)")
        axes.set_ylabel(f"worth of a step, in steps of {reference}")
        low, high = np.exp(rows["log"].min()), np.exp(rows["log"].max())
        ticks = [t for t in _TICKS if low / 1.3 < t < high * 1.3]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)
        axes.set_xticks(sorted(set(rows["width"])), [str(w) for w in sorted(set(rows["width"]))])
        axes.set_xticks([], minor=True)
        style.legend_below(figure, axes)
        style.finish(figure)
    return figure


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--schedules", action="store_true")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    field = "optim.schedule" if given.schedules else "optim.name"
    asked = get_study("schedules" if given.schedules else "")
    frame = table([run for _, run in of_study.finished(asked, given.workdir)])
    found = best(frame.rename(columns={"train.steps": "steps"}), field)
    reference = found["name"].iloc[0]
    pd.set_option("display.width", 120)
    print(found.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    rows = worth(found, reference)
    for name, own in rows.groupby("name", sort=False):
        slope, half = trend(own)
        ratios = ", ".join(
            f"{np.exp(r.log):.2f} at {r.width:g}" for r in own.sort_values("width").itertuples()
        )
        print(f"{name}: {ratios}; ~ width^{slope:.2f} ({slope - half:.2f} to {slope + half:.2f})")
    if given.figure is not None:
        of_study.write(draw(rows, reference), given.figure)


if __name__ == "__main__":
    main()
