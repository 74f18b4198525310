"""From how many labels on pretraining is worth nothing: the study of masked tokens before a task.

    python launch.py sweep --experiment=experiments/bert_finetune.py --workdir=out
    python -m benchmarks.labels --workdir=out [--figure=labels.png]

Prints for each width and number of labelled examples the loss and the accuracy from scratch and
pretrained, means over seeds, and the difference of the losses with its standard error; and from
which number on the two have met: the difference is within a standard error, there and beyond.
"""

import math

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.bert_finetune import get_study
from scaling.records.tables import table
from scaling.report import style

SCRATCH, PRETRAINED = "scratch", "whole"  # as tables say what was trained of a run


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a width and number of labelled examples that has been trained in both ways: `width`,
    `unique`, `seeds`; `scratch` and `pretrained`, losses, and `scratch_accuracy` and
    `pretrained_accuracy`, means over seeds; `difference`, by which the loss from scratch is higher,
    and `se`, its standard error.

    The variance of a mean is that of the evaluation, which seeds share, and that between seeds
    over their number. The two means are taken as independent, although they are of the same
    examples: `se` is rather too large.

    Args:
      frame: the table of the study's runs.
    """
    rows = []
    for (width, unique), part in frame.groupby(["width", "unique"]):
        ways = [part[part["trained"] == way] for way in (SCRATCH, PRETRAINED)]
        if any(way.empty for way in ways):
            continue
        (scratch, pretrained), accuracy = (
            [way[name].mean() for way in ways] for name in ("loss", "accuracy")
        )
        variance = sum(
            (way["loss_se"] ** 2).mean() + (way["loss"].var() / len(way) if len(way) > 1 else 0)
            for way in ways
        )
        found = {"width": width, "unique": int(unique), "seeds": min(map(len, ways))}
        found |= {"scratch": scratch, "pretrained": pretrained}
        found |= {"scratch_accuracy": accuracy[0], "pretrained_accuracy": accuracy[1]}
        rows.append(found | {"difference": scratch - pretrained, "se": math.sqrt(variance)})
    return pd.DataFrame(rows)


def met(found: pd.DataFrame) -> int | None:
    """The number of labelled examples of one width from which on pretraining gains no more than a
    standard error; None: it still does at the most.
    """
    first = None
    for _, row in found.sort_values("unique", ascending=False).iterrows():
        if row["difference"] > row["se"]:
            break
        first = int(row["unique"])
    return first


def draw(found: pd.DataFrame) -> Figure:
    """Losses of both ways against the labelled examples, and by how much they differ."""
    with style.styled():
        figure = Figure(figsize=(8.6, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        colors = style.ramp(found["width"].nunique())
        for color, (width, part) in zip(colors, found.groupby("width"), strict=True):
            for way, line in (("scratch", "--"), ("pretrained", "-")):
                label = f"width {width}, {'from scratch' if way == 'scratch' else way}"
                left.plot(part["unique"], part[way], line, marker="o", color=color, label=label)
            share, error = part["difference"] / part["scratch"], part["se"] / part["scratch"]
            look = {"marker": "o", "color": color, "capsize": 3, "label": f"width {width}"}
            right.errorbar(part["unique"], 100 * share, 100 * error, **look)
        right.axhline(0, color="0.5", linewidth=1)
        losses = found[["scratch", "pretrained"]].to_numpy()
        style.loss_axis(left, float(losses.min()), float(losses.max()))
        left.set(ylabel="validation loss (nats/token)")
        right.set(ylabel="lower loss for being pretrained (%)")
        for axes in (left, right):
            style.count_axis(axes, found["unique"].tolist())
            axes.set_xlabel("labelled passages")
            axes.legend(frameon=False)
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table and where the two meet, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    runs = [run for _, run in of_study.finished(get_study(), given.workdir)]
    found = compared(table(runs)) if runs else pd.DataFrame()
    if found.empty:
        raise of_study.nothing(given.workdir, "bert_finetune.py")
    print(found.round(4).to_string(index=False))
    for width, part in found.groupby("width"):
        first = met(part)
        said = f"have not met by {part['unique'].max():,}" if first is None else f"met at {first:,}"
        print(f"width {width}: {said}")
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
