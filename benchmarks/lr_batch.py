"""The best learning rate and batch of every size and length of a study, as a table to fit laws to.

    python launch.py sweep --experiment=experiments/lr_batch.py --workdir=out
    python -m benchmarks.lr_batch --workdir=out --table=best.csv [--figure=lr_batch.png]
    python launch.py fit --table=best.csv --law=best_lr --out=fits/best_lr
    python launch.py fit --table=best.csv --law=best_batch --out=fits/best_batch

At each batch the loss over the learning rate has a minimum (`laws/optimum.py`). The batch of the
table is the largest whose minimum lies within `MARGIN` of the least over all batches, between those
tried on the line through the losses over the logarithm of the batch: with the data held fast small
batches lose nothing, so the best is where the grid ends, and what matters is how far up is free.
The rate is read off at that batch. Prints the power law of the rates of all sizes, lengths and
batches too; what Step Law, DeepSeek and Kaplan et al. say of the same models, by their own
constants; and what successive halving of each grid would have found, for how much of its compute.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from experiments.lr_batch import get_study
from scaling.config.search import Search
from scaling.laws.optimum import optima
from scaling.records import RunDirectory
from scaling.records.tables import curves, table
from scaling.report import style
from scaling.studies import study
from scaling.tuning.halving import promoted

LEVEL, MARGIN = 0.9, 0.02  # of intervals; of a batch's loss over the least of all batches


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


def free(of: pd.DataFrame) -> float:
    """The largest batch, in rows, of a size and length that costs no more than `MARGIN`."""
    log, loss = np.log(of["rows"].to_numpy(float)), of["loss"].to_numpy()
    bound = (1 + MARGIN) * loss.min()
    last = int(np.flatnonzero(loss <= bound)[-1])
    if last == len(log) - 1:
        return float(np.exp(log[-1]))
    share = (bound - loss[last]) / (loss[last + 1] - loss[last])
    return float(np.exp(log[last] + share * (log[last + 1] - log[last])))


def best(found: pd.DataFrame, frame: pd.DataFrame, unit: int) -> pd.DataFrame:
    """A row a size and length: batch in units a step, learning rate there, least loss; with the
    columns that laws read.
    """
    rows = []
    for (width, tokens), of in found.groupby(["width", "tokens"]):
        own = frame[(frame["width"] == width) & (frame["tokens"] == tokens)].iloc[0]
        batch = free(of)
        rate = np.interp(np.log(batch), np.log(of["rows"].astype(float)), np.log(of["lr"]))
        least = of.loc[of["loss"].idxmin()]
        rows.append(
            {"width": width, "params": own["params"], "tokens": tokens, "flops": own["flops"],
             "lr": float(np.exp(rate)), "batch": batch * unit, "loss": least["loss"],
             "best_batch": least["rows"] * unit}
        )  # fmt: skip
    return pd.DataFrame(rows)


def rates(found: pd.DataFrame, params: pd.Series) -> str:
    """The law of the best rate over size, length and batch, by least squares in logarithms."""
    kept = found[~found["note"].str.startswith("at the edge")]
    columns = [kept["width"].map(params), kept["tokens"], kept["rows"]]
    design = np.column_stack([np.ones(len(kept)), *(np.log(x.astype(float)) for x in columns)])
    target = np.log(kept["lr"].to_numpy())
    beta, *_ = np.linalg.lstsq(design, target, rcond=None)
    dof = len(kept) - design.shape[1]
    scatter = float(np.sum((target - design @ beta) ** 2)) / dof
    reach = stats.t.ppf((1 + LEVEL) / 2, dof) * np.sqrt(
        scatter * np.diag(np.linalg.inv(design.T @ design))
    )
    said = [
        f"{name}^{b:.2f} ({b - r:.2f} to {b + r:.2f})"
        for name, b, r in zip(("params", "tokens", "batch"), beta[1:], reach[1:], strict=True)
    ]
    return f"best rate ~ {' '.join(said)}, through {len(kept)} minima that are no edge"


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
            look: dict[str, Any] = {"color": style.COLOURS[place], "marker": style.MARKERS[place]}
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


def halved(
    of: pd.DataFrame, curve: dict[str, pd.DataFrame], rungs: Sequence[float], reduction: int
) -> str:
    """Successive halving of one size and length, replayed on the training losses of its grid's own
    lines: those that the runs had logged by about each rung.
    """
    going, cost, before = set(of.index), 0.0, 0.0
    for rung in rungs:
        cost, before = cost + len(going) * (rung - before), rung
        losses = {i: _logged(curve[of.at[i, "name"]], rung) for i in going}
        going = promoted(losses, [], reduction)
    cost += len(going) * (1 - before)
    left, best_of_all = of.loc[list(going)], of.loc[of["loss"].idxmin()]
    found = left.loc[left["loss"].idxmin()]
    return (
        f"width {found['width']}, {found['tokens']:.3g} bytes: {len(of)} trials, {len(left)} "
        f"to the end, {cost / len(of):.0%} of the compute; {found['loss']:.4f} against the grid's "
        f"{best_of_all['loss']:.4f}, at {found['optim.peak_lr']:.4g} and "
        f"{found['train.batch_size']:g} rows against {best_of_all['optim.peak_lr']:.4g} and "
        f"{best_of_all['train.batch_size']:g}"
    )


def _logged(curve: pd.DataFrame, share: float) -> float:
    """The mean training loss about a share of the run; infinite where it has diverged."""
    rows = curve[curve["split"] == "train"]
    at = rows["tokens"] / curve["tokens"].max()
    near = rows[(at > 0.6 * share) & (at < 1.3 * share)]
    chosen = near if len(near) else rows.loc[[(at - share).abs().idxmin()]]
    loss = float(chosen["loss"].mean())
    return loss if np.isfinite(loss) else float("inf")


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    directories = [RunDirectory.open(config, given.workdir) for config in study.runs(get_study())]
    frame = table([run for run in directories if run.status().get("state") == "done"])
    unit = get_study().base.data.units_per_example
    found = over_rates(frame)
    rows = best(found, frame, unit)
    pd.set_option("display.width", 160, "display.max_columns", 20)
    for one in (found, rows):
        print(one.to_string(index=False, float_format=lambda x: f"{x:.4g}"), end="\n\n")
    print(rates(found, frame.groupby("width")["params"].first()))
    for name, (rate, batch) in PUBLISHED.items():
        said = [f"{rate(r):.4g} and {batch(r):.0f}" for r in rows.itertuples()]
        print(f"{name}: rate and batch {'; '.join(said)}")
    curve = {run.path.name: curves(run) for run in directories}
    own = get_study().search
    assert own is not None
    for rungs in (own.rungs, Search(own.axes).rungs):
        print(f"halving at {', '.join(f'{rung:.3g}' for rung in rungs)} of the steps:")
        for _, of in frame.groupby(["width", "tokens"]):
            print("  " + halved(of, curve, rungs, own.reduction))
    if given.table is not None:
        rows.to_csv(given.table, index=False)
    if given.figure is not None:
        draw(found, unit).savefig(given.figure)


if __name__ == "__main__":
    main()
