"""Which share of old data is best for a model that goes on with new data?

    python launch.py sweep --experiment=experiments/adaptation.py
    python -m benchmarks.adaptation [--workdir=out] [--figure=FILE]

The law of continued pretraining (`continued`) of all runs of the study, of the loss on the new data
over their share and of that on the old over theirs. The best share is that at which the mean of
both is lowest by the laws; its interval of 90 % is over the bootstrap of both. Prints the laws, how
far runs are off them, and the best share of each width and length, beside the best that was run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from scaling.laws import LAWS, Fit, Options, fit
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study

EXPERIMENT, LAW = "experiments/adaptation.py", "continued"
SHARES = np.linspace(0.0, 0.75, 301)


def laws(rows: pd.DataFrame) -> tuple[Fit, Fit]:
    """Of the new data, over their share, and of the old, over theirs."""
    found = []
    for name, share, loss in (("new", 1 - rows["old"], "loss"), ("old", rows["old"], "old_loss")):
        own = rows[["params", "tokens"]].assign(share=share, loss=rows[loss])
        one = fit(own, LAW, Options())
        off = np.log(own["loss"] / _predicted(one, own.to_dict("series")))
        print(f"of the {name} data, off by {100 * off.std():.1f} % (SD): {one}")
        found.append(one)
    return found[0], found[1]


def _predicted(one: Fit, columns: Mapping[str, Any], draw: int | None = None) -> np.ndarray:
    """By the parameters of a draw of the bootstrap; None: of the fit."""
    values = dict(one.params)
    if draw is not None:
        values |= dict(zip(one.free, one.samples[draw % len(one.samples)], strict=True))
    return np.asarray(LAWS[LAW].predict(values, {k: np.asarray(v) for k, v in columns.items()}))


def both(fits: tuple[Fit, Fit], row: pd.Series, draw: int | None = None) -> list[np.ndarray]:
    """The losses on new and old data at every one of SHARES, of a run's width and length."""
    size = {name: np.full(len(SHARES), row[name]) for name in ("params", "tokens")}
    shares = 1 - SHARES, SHARES
    return [
        _predicted(one, size | {"share": share}, draw)
        for one, share in zip(fits, shares, strict=True)
    ]


def best_shares(rows: pd.DataFrame, fits: tuple[Fit, Fit]) -> pd.DataFrame:
    """By width and length: the best share by the laws, its interval, and the best that was run."""
    found = []
    for (width, tokens), own in rows.groupby(["width", "tokens"]):
        row, draws = own.iloc[0], range(max(len(one.samples) for one in fits))
        each = [SHARES[np.add(*both(fits, row, draw)).argmin()] for draw in draws]
        low, high = np.quantile(each, (0.05, 0.95))
        best = SHARES[np.add(*both(fits, row)).argmin()]
        run = own.loc[own["loss_of_tasks"].idxmin(), "old"]
        found.append([width, tokens, best, low, high, run])
    return pd.DataFrame(found, columns=["width", "tokens", "best", "low", "high", "best_run"])


def draw(rows: pd.DataFrame, fits: tuple[Fit, Fit], path: Path) -> None:
    """Loss on both data over the share of the old, of the widest models; lines: the laws."""
    widest = rows[rows["width"] == rows["width"].max()]
    with style.styled():
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for i, (tokens, own) in enumerate(widest.groupby("tokens")):
            lines = both(fits, own.iloc[0])
            for axes, column, line in zip(panels, ("loss", "old_loss"), lines, strict=True):
                label = f"{tokens / 1e3:.0f} thousand"
                axes.plot(SHARES, line, color=style.COLOURS[i], lw=1.2)
                axes.plot(own["old"], own[column], "o", color=style.COLOURS[i], label=label)
        before = widest["old_loss"] - widest["loss_forgotten"]
        panels[1].axhline(before.iloc[0], color=style.INK, lw=0.9, ls=(0, (2, 2)))
        for axes, name in zip(panels, ("prose", "code"), strict=True):
            axes.set(xlabel="share of code", ylabel=f"loss on {name} (nats/byte)")
            axes.set_xlim(-0.02, 0.55)
        style.legend_below(figure, panels[0], "bytes read")
        style.finish(figure)
        of_study.write(figure, path)


def main() -> None:
    """Prints the laws and the best shares."""
    asked = of_study.flags(__doc__).parse_args()
    configs = study.runs(study.load_study(EXPERIMENT))
    frame = table([RunDirectory.open(config, asked.workdir) for config in configs])
    rows = frame[(frame["status"] == "done") & frame["loss_forgotten"].notna()]
    rows = rows.assign(old=rows["mixture.shares.code"], old_loss=rows["loss/code"])
    fits = laws(rows)
    print(best_shares(rows, fits).round(3).to_string(index=False))
    if asked.figure:
        draw(rows, fits, asked.figure)


if __name__ == "__main__":
    main()
