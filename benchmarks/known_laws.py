"""Fitted laws against true ones: the known-law studies of a workdir.

    python launch.py sweep --experiment=experiments/known_laws.py:markov --workdir=out
    python benchmarks/known_laws.py --workdir=out [--figure=known_laws.png]

Prints for every task and every repetition of it the exponent and the floor of the law
`power_floor` fitted to the runs, with their 90 % intervals, and what is true; of a share of right
answers, the law is of the wrong ones.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.known_laws import TASKS, get_study
from scaling import laws
from scaling.laws import Fit
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study

REPEATS = 3
NAMES = {
    "features": "random features, fitted whole",
    "seen_once": "linear teacher, data seen once",
    "markov": "Markov chain",
    "associations": "associations: wrong answers",
}


def of_task(workdir: str, task: str, repeat: int) -> tuple[pd.DataFrame, Fit] | None:
    """The table of a repetition of a task, with the `distance` from the true floor, and its fit;
    None where not all of it is there.
    """
    asked = get_study(f"{task}{repeat or ''}")
    directories = [RunDirectory.open(run, workdir) for run in study.runs(asked)]
    if not all((run.path / "config.json").exists() for run in directories):
        return None
    runs = table(directories)
    runs = runs[runs["status"] == "done"]
    measured = runs["truth_of"].iloc[0]
    loss = measured
    if measured != "loss":
        loss = "wrong"
        runs = runs.assign(wrong=runs["true_floor"] - runs[measured])
    runs = runs.assign(distance=(runs[measured] - runs["true_floor"]).abs())
    return runs, laws.fit(runs, "power_floor", laws.Options(x=asked.x, loss=loss, delta=1.0))


def compare(fits: dict[tuple[str, int], Fit]) -> pd.DataFrame:
    """A row a parameter of a fit of which the truth is known."""
    rows = []
    for (task, repeat), fit in fits.items():
        for name, (true, unsure) in fit.known.values.items():
            value, (low, high) = fit.params[name], fit.intervals[name]
            rows.append(
                {
                    "task": task,
                    "repeat": repeat,
                    "runs": fit.n,
                    "parameter": name,
                    "true": true,
                    "±": unsure,
                    "fitted": value,
                    "low": low,
                    "high": high,
                    "off": fit.known.off(name, value, fit.errors[name]),
                    "holds": fit.known.holds(name, value, (low, high), fit.level),
                }
            )
    return pd.DataFrame(rows)


def draw(tables: dict[tuple[str, int], pd.DataFrame], fits: dict[tuple[str, int], Fit]) -> Figure:
    """A panel a task: how far from the true floor the runs are, and the slope that is true."""
    tasks = [task for task in TASKS if any(task == of for of, _ in tables)]
    with style.styled():
        rows, columns = -(-len(tasks) // 2), min(2, len(tasks))
        figure = Figure(figsize=(4.3 * columns, 3.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        for axes, task in zip(panels, tasks, strict=False):
            own = {repeat: rows for (of, repeat), rows in tables.items() if of == task}
            for repeat, runs in own.items():
                x = fits[task, repeat].x["x"]
                means = runs.groupby(x)["distance"].mean()
                look = {"color": style.COLOURS[repeat], "ms": 4}
                axes.plot(runs[x], runs["distance"], "o", mfc="none", alpha=0.5, **look)
                axes.plot(means.index, means, "-", lw=1, label=f"repetition {repeat + 1}", **look)
            every, fit = pd.concat(own.values()), fits[task, next(iter(own))]
            x = fit.x["x"]
            if "alpha" in fit.known.values:
                slope, grid = fit.known.values["alpha"][0], np.sort(every[x].unique())
                factor = np.exp(np.mean(np.log(every["distance"] * every[x] ** slope)))
                label = f"known: power {slope:.3g}"
                axes.plot(
                    grid, factor * grid**-slope, color=style.INK, ls=(0, (1, 1.5)), label=label
                )
            elif "loss_se" in every:
                least = every["loss_se"].min()
                axes.axhline(
                    least, color=style.INK, ls=(0, (1, 1.5)), lw=1, label="error of a loss"
                )
            axes.set(yscale="log", xlabel=x.replace("_", " "), title=NAMES[task])
            style.count_axis(axes, sorted(every[x].unique()))
            axes.legend()
        for axes in panels[::columns]:
            axes.set_ylabel("distance from the true floor")
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", required=True, help="of the studies")
    parser.add_argument("--figure", help="a PNG or SVG to write")
    given = parser.parse_args()
    tables, fits = {}, {}
    for task in TASKS:
        for repeat in range(REPEATS):
            if (found := of_task(given.workdir, task, repeat)) is not None:
                tables[task, repeat], fits[task, repeat] = found
    if not fits:
        raise SystemExit(f"--workdir={given.workdir} has no whole study of known_laws.py")
    found = compare(fits)
    print(found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    print(f"{found['holds'].sum()} of {len(found)} intervals hold the truth")
    if given.figure:
        path = Path(given.figure)
        path.write_bytes(style.encode(draw(tables, fits), path.suffix[1:]))


if __name__ == "__main__":
    main()
