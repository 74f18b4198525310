"""When the circuit appears: the runs of the study of circuits of a workdir, along their training.

    python launch.py sweep --experiment=experiments/circuits.py --workdir=out
    python -m benchmarks.circuits --workdir=out [--figure=circuits.png]

Prints for each run at which validation loss, and after how many updates, the induction score of its
best head has gone a tenth and a half of the way from what it begins with to 1, and its end.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.circuits import get_study
from scaling.config import choices
from scaling.report import style
from scaling.studies import study

SHARES = (0.1, 0.5)
SETS = ("val", "twice", "lens0", "lens1")


def along(workdir: str) -> pd.DataFrame:
    """A row a run and an evaluation: width, depth, seed, step, loss, induction, copy_gain."""
    rows = []
    for config, run in of_study.finished(get_study(), workdir):
        at: dict[int, dict[str, dict]] = {}
        for line in run.metrics():
            if line["split"] in SETS:
                at.setdefault(line["step"], {})[line["split"]] = line
        model = {"width": config.model.width, "depth": config.model.depth, "seed": config.seed}
        for step, sets in at.items():
            scores = {n: sets["twice"][n] for n in ("induction", "previous_token", "copy_gain")}
            lens = {n: sets[n]["loss"] for n in ("lens0", "lens1")}
            rows.append(model | {"step": step, "loss": sets["val"]["loss"]} | scores | lens)
    return pd.DataFrame(rows)


def crossing(run: pd.DataFrame, share: float) -> dict[str, float]:
    """Where the score has first gone a share of the way to 1, between two evaluations; NaN:
    nowhere.
    """
    score = run["induction"].to_numpy()
    wanted = score[0] + share * (1 - score[0])
    over = np.flatnonzero(score >= wanted)
    if not over.size:
        return {"loss": np.nan, "step": np.nan}
    pair = slice(over[0] - 1, over[0] + 1)
    return {
        name: float(np.interp(wanted, score[pair], run[name].to_numpy()[pair]))
        for name in ("loss", "step")
    }


def draw(found: pd.DataFrame, floor: float) -> Figure:
    """The score over updates, and over the loss."""
    widths = sorted(found["width"].unique())
    with style.styled():
        figure = Figure(figsize=(8.6, 4.0), layout="constrained")
        by_step, by_loss = figure.subplots(1, 2, sharey=True)
        for (width, depth, _), run in found.groupby(["width", "depth", "seed"]):
            look = {"color": style.COLOURS[widths.index(width)], "ls": "-" if depth == 2 else ":"}
            by_step.plot(run["step"], run["induction"], **look)
            by_loss.plot(run["loss"], run["induction"], **look)
        for width in widths:
            label = {"label": f"width {width}"}
            by_loss.plot([], [], color=style.COLOURS[widths.index(width)], **label)
        by_loss.plot([], [], color=style.INK, ls=":", label="one block")
        by_loss.axvline(floor, color=style.INK, lw=1, ls=(0, (2, 2)))
        by_loss.annotate("floor", (floor, 0.3), xytext=(4, 0), textcoords="offset points")
        by_loss.invert_xaxis()
        by_step.set(xlabel="updates", ylabel="induction score of the best head")
        by_loss.set(xlabel="validation loss, falling")
        by_loss.legend(fontsize=9)
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = along(given.workdir)
    if found.empty:
        raise of_study.nothing(given.workdir, "circuits.py")
    rows = []
    for (depth, width, seed), run in found.groupby(["depth", "width", "seed"]):
        last = run.iloc[-1][["loss", "induction", "previous_token", "copy_gain", "lens1"]]
        way = {
            f"{name} at {share}": value
            for share in SHARES
            for name, value in crossing(run, share).items()
        }
        rows.append({"depth": depth, "width": width, "seed": seed} | way | dict(last))
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    data = next(iter(study.runs(get_study()))).data
    truth: Any = choices.kind(data).truth(data)
    floor = float(truth.floor)
    print(f"floor {floor:.4f}")
    if given.figure:
        of_study.write(draw(found, floor), given.figure)


if __name__ == "__main__":
    main()
