"""What tasks gain from each other: the study of several tasks of a workdir.

    python launch.py sweep --experiment=experiments/multitask.py --workdir=out
    python -m benchmarks.multitask --workdir=out [--figure=multitask.png]

Prints for each width the loss of each task alone, and by how much it is lower beside each other
one, and beside all, where as many of its own rows were seen.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from configs.multitask import TASKS
from experiments.multitask import get_study
from scaling.report import style

ALL = "all four"


def measured(workdir: str) -> pd.DataFrame:
    """A row a finished run and a task: `width`, `learned`, `task`, `loss`, `accuracy`."""
    rows = []
    for config, run in of_study.finished(get_study(), workdir):
        shares = (config.data.weights or "1,1,1,1").split(",")
        learned = "+".join(t for t, share in zip(TASKS, shares, strict=True) if float(share))
        if config.model.uncertainty:
            learned = f"{ALL}, by uncertainty"
        elif learned == "+".join(TASKS):
            learned = ALL
        found = run.latest(list(TASKS))
        for task in TASKS:
            line = {name: found[task][name] for name in ("loss", "accuracy")}
            rows.append({"width": config.model.width, "learned": learned, "task": task, **line})
    return pd.DataFrame(rows)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """By how much the loss of each task (columns) is lower beside another (rows), as a share."""
    losses = rows.pivot(index="learned", columns="task", values="loss")
    alone = pd.Series({task: losses.loc[task, task] for task in TASKS})
    table = pd.DataFrame(np.nan, index=[*TASKS, ALL], columns=[*TASKS])
    for task in TASKS:
        for other in TASKS:
            pair = "+".join(t for t in TASKS if t in (task, other))
            if other != task and pair in losses.index:
                table.loc[other, task] = 1 - losses.loc[pair, task] / alone[task]
        if ALL in losses.index:
            table.loc[ALL, task] = 1 - losses.loc[ALL, task] / alone[task]
    return table


def draw(found: dict[int, pd.DataFrame]) -> Figure:
    """A matrix a width: columns are tasks, rows what is learned beside them."""
    most = max(float(np.nanmax(np.abs(table.to_numpy()))) for table in found.values())
    with style.styled():
        figure = Figure(figsize=(8.6, 4.2), layout="constrained")
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (width, table) in zip(panels, found.items(), strict=True):
            axes.imshow(table, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
            for (row, column), value in np.ndenumerate(table.to_numpy()):
                if np.isfinite(value):
                    dark = abs(value) > 0.6 * most
                    text = f"{100 * value:+.1f}"
                    look = {"ha": "center", "va": "center", "color": "w" if dark else "k"}
                    axes.text(column, row, text, **look)
            axes.set_xticks(range(len(table.columns)), table.columns)
            axes.set_yticks(range(len(table.index)), table.index)
            axes.grid(visible=False)
            axes.set(title=f"width {width}", xlabel="loss of", ylabel="learned beside it")
        figure.suptitle("Lower loss than alone (%)")
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the tables, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    rows = measured(given.workdir)
    if rows.empty:
        raise of_study.nothing(given.workdir, "multitask.py")
    found = {}
    for width, part in rows.groupby("width"):
        for value in ("loss", "accuracy"):
            print(f"width {width}, {value}")
            print(part.pivot(index="learned", columns="task", values=value)[[*TASKS]].round(3))
        found[int(width)] = gains(part)
        print(f"width {width}, lower loss than alone (%)")
        print((100 * found[int(width)]).round(1))
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
