"""The best learning rate and batch of every size and length of a study, as a table to fit laws to.

    python launch.py sweep --experiment=experiments/lr_batch.py --workdir=out
    python benchmarks/lr_batch.py --workdir=out --table=best.csv [--figure=lr_batch.png]
    python launch.py fit --table=best.csv --law=best_lr --out=fits/best_lr
    python launch.py fit --table=best.csv --law=best_batch --out=fits/best_batch

At each batch the loss over the learning rate has a minimum, and these minima over the batch have
one again (`laws/optimum.py`); the best rate is read off the line through the rates of the batches
beside it, in logarithms. Prints what Step Law, DeepSeek and Kaplan et al. say of the same models,
by their own constants, and with `--search=DIR` what a search of `sweep --tune` in that workdir
found of the size that it searched, and for how much of the grid's compute.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.lr_batch import get_study
from scaling.laws.optimum import optima
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study


def over_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a size, length and batch: the least loss over learning rates, and where it is."""
    keys, curves = [], []
    for key, rows in frame.groupby(["width", "tokens", "train.batch_size"]):
        keys.append(key)
        curves.append((rows["optim.peak_lr"].to_numpy(), rows["loss"].to_numpy()))
    found = optima(curves)
    return pd.DataFrame(
        {"width": w, "tokens": t, "rows": b, "lr": o.rate, "low": o.low, "high": o.high,
         "loss": o.loss, "note": o.refused or o.wide}
        for (w, t, b), o in zip(keys, found, strict=True)
    )  # fmt: skip


def best(found: pd.DataFrame, frame: pd.DataFrame, unit: int) -> pd.DataFrame:
    """A row a size and length: batch in units a step, learning rate, loss; with the columns that
    laws read.
    """
    groups = list(found.groupby(["width", "tokens"]))
    over = optima([(of["rows"].to_numpy(float), of["loss"].to_numpy()) for _, of in groups])
    rows = []
    for ((width, tokens), of), batch in zip(groups, over, strict=True):
        own = frame[(frame["width"] == width) & (frame["tokens"] == tokens)].iloc[0]
        rate = np.interp(np.log(batch.rate), np.log(of["rows"].astype(float)), np.log(of["lr"]))
        rows.append(
            {"width": width, "params": own["params"], "tokens": tokens, "flops": own["flops"],
             "lr": float(np.exp(rate)), "batch": batch.rate * unit, "batch_low": batch.low * unit,
             "batch_high": batch.high * unit, "loss": batch.loss,
             "note": batch.refused or batch.wide}
        )  # fmt: skip
    return pd.DataFrame(rows)


# Constants as published: of rates and of batches in tokens a step. What they count differs: Step
# Law's N are parameters without the embeddings, DeepSeek's C is non-embedding FLOPs.
PUBLISHED = {
    "Step Law (2503.04715)": (
        lambda r: 1.79 * r.params**-0.713 * r.tokens**0.307,
        lambda r: 0.58 * r.tokens**0.571,
    ),
    "DeepSeek (2401.02954)": (
        lambda r: 0.3118 * r.flops**-0.125,
        lambda r: 0.2920 * r.flops**0.3271,
    ),
    "Kaplan et al. (2001.08361)": (
        lambda r: 0.003239 - 0.0001395 * np.log(r.params),
        lambda r: 2e8 * r.loss ** (-1 / 0.21),
    ),
}


def draw(found: pd.DataFrame, unit: int) -> Figure:
    """The least loss over rates, and below it the best rate, over the batch."""
    with style.styled():
        figure, (upper, lower) = style.new_figure(strip=True)
        for place, ((width, tokens), of) in enumerate(found.groupby(["width", "tokens"])):
            look = {"color": style.COLOURS[place], "marker": style.MARKERS[place]}
            label = f"width {width:g}, {tokens / 1e3:.0f} thousand bytes"
            upper.plot(of["rows"] * unit, of["loss"], label=label, **look)
            lower.plot(of["rows"] * unit, of["lr"], **look)
        ticks = sorted({int(x) for x in found["rows"] * unit})
        upper.set(xscale="log", ylabel="least loss over learning rates")
        lower.set(yscale="log", ylabel="best rate", xlabel="batch (bytes a step)")
        lower.set_xticks(ticks, [str(x) for x in ticks])
        lower.set_xticks([], minor=True)
        style.legend_below(figure, upper)
        style.finish(figure)
    return figure


def searched(folder: Path, frame: pd.DataFrame) -> str:
    """What a search found of its size, beside the grid."""
    trials = pd.read_csv(folder / "report" / "lr_batch-search" / "trials.csv")
    base = get_study().base
    own = frame[(frame["width"] == base.model.width) & (frame["tokens"] == base.train.tokens)]
    ended = trials[trials["state"] == "done"]
    one, other = ended.loc[ended["loss"].idxmin()], own.loc[own["loss"].idxmin()]
    share = float((trials["step"] / trials["steps"]).sum() / len(own))
    return (
        f"search: {len(trials)} trials, {len(ended)} to the end, {share:.0%} of the grid's "
        f"{len(own)} runs; best {one['loss']:.4f}, the grid's {other['loss']:.4f} at "
        f"{other['optim.peak_lr']:.4g}, {other['train.batch_size']:g} rows"
    )


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--search", type=Path)
    given = parser.parse_args()
    directories = [RunDirectory.open(config, given.workdir) for config in study.runs(get_study())]
    frame = table([run for run in directories if run.status().get("state") == "done"])
    unit = get_study().base.data.units_per_example
    found = over_rates(frame)
    rows = best(found, frame, unit)
    pd.set_option("display.width", 160, "display.max_columns", 20)
    for one in (found, rows):
        print(one.to_string(index=False, float_format=lambda x: f"{x:.4g}"), end="\n\n")
    for name, (rate, batch) in PUBLISHED.items():
        said = [f"{rate(r):.4g} and {batch(r):.0f}" for r in rows.itertuples()]
        print(f"{name}: rate and batch {'; '.join(said)}")
    if given.search is not None:
        print(searched(given.search, frame))
    if given.table is not None:
        rows.to_csv(given.table, index=False)
    if given.figure is not None:
        draw(found, unit).savefig(given.figure)


if __name__ == "__main__":
    main()
