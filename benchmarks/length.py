"""Longer rows than were trained on: the length studies of a workdir.

    python launch.py sweep --experiment=experiments/length.py --workdir=out
    python launch.py sweep --experiment=experiments/length.py:markov --workdir=out
    python -m benchmarks.length --workdir=out [--figure=length.png]

Prints for both tasks and each kind of positions what is measured on rows of the trained length and
of twice, four and eight times that: right answers of copies, and of the chain the loss above the
entropy of such rows.
"""

import dataclasses
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.length import TIMES, get_study
from scaling.config import choices
from scaling.report import style

TASKS = {"": "copies: right symbols", "markov": "chain: nats above the entropy"}


def measured(workdir: str, task: str) -> pd.DataFrame:
    """A row a run and a length: `positions`, `times` as long, `value`."""
    rows = []
    for config, run in of_study.finished(get_study(task), workdir):
        found = run.latest([f"x{times}" for times in TIMES])
        kind = "interpolated" if config.model.rope_length else config.model.positions
        for times in TIMES:
            line = found[f"x{times}"]
            value = line["accuracy"]
            if task:
                data = dataclasses.replace(config.data, part=f"x{times}")
                truth: Any = choices.kind(data).truth(data)
                value = line["loss"] - truth.floor
            rows.append({"positions": kind, "times": times, "seed": config.seed, "value": value})
    return pd.DataFrame(rows)


def draw(found: dict[str, pd.DataFrame]) -> Figure:
    """A panel a task."""
    with style.styled():
        figure = Figure(figsize=(8.6, 4.3), layout="constrained")
        for axes, (task, rows) in zip(figure.subplots(1, 2), found.items(), strict=False):
            kinds = rows.groupby("positions", sort=False)
            looks = zip(style.COLOURS, style.MARKERS, kinds, strict=False)
            for colour, marker, (kind, runs) in looks:
                means = runs.groupby("times")["value"].mean()
                axes.plot(means.index, means, color=colour, marker=marker, label=kind)
                axes.plot(
                    runs["times"], runs["value"], marker, color=colour, mfc="none", ls="", ms=4
                )
            axes.set(xscale="log", xlabel="times the trained length", title=TASKS[task])
            axes.set_xticks(TIMES, [str(times) for times in TIMES])
            axes.minorticks_off()
            if task:
                axes.set_yscale("log")
            axes.legend()
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the tables, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = {task: measured(given.workdir, task) for task in TASKS}
    found = {task: rows for task, rows in found.items() if len(rows)}
    if not found:
        raise of_study.nothing(given.workdir, "length.py")
    for task, rows in found.items():
        print(TASKS[task])
        print(rows.pivot_table(index="positions", columns="times", values="value", sort=False))
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
