"""Fitted laws against true ones: the known-law studies of a workdir.

    python launch.py sweep --experiment=experiments/known_laws.py:markov --workdir=out
    python -m benchmarks.known_laws --workdir=out [--figure=known_laws.png]

Prints for every task and every repetition of it, and for the repetitions together, the exponent
and the floor of the law `power_floor` fitted to the runs, with their 90 % intervals, and what is
true; of a share of right answers, the law is of the wrong ones. Beside the data that are seen once,
what gradient descent on them is expected to end at, reckoned without training.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.known_laws import TASKS, get_study
from scaling import laws
from scaling.config import RunConfig
from scaling.config.amounts import resolved
from scaling.data.kinds.vectors.task import PowerLaw
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
    "parity": "parities, learned one by one",
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
    if not (runs["status"] == "done").all():
        return None
    measured = runs["truth_of"].iloc[0]
    loss = measured
    if measured != "loss":
        loss = "wrong"
        runs = runs.assign(wrong=runs["true_floor"] - runs[measured])
    runs = runs.assign(distance=(runs[measured] - runs["true_floor"]).abs())
    return runs, _fitted(runs, asked.x, loss)


def _fitted(runs: pd.DataFrame, x: str, loss: str | None) -> Fit:
    return laws.fit(runs, "power_floor", laws.Options(x=x, loss=loss, delta=1.0))


def together(
    tables: dict[tuple[str, int], pd.DataFrame], fits: dict[tuple[str, int], Fit]
) -> dict[tuple[str, str], Fit]:
    """(task, "all") -> the law of all its repetitions, where there are several."""
    found = {}
    for task in TASKS:
        own = [rows for (of, _), rows in tables.items() if of == task]
        if len(own) > 1:
            like = next(fit for (of, _), fit in fits.items() if of == task)
            found[task, "all"] = _fitted(pd.concat(own, ignore_index=True), like.x["x"], like.loss)
    return found


def compare(fits: Mapping[tuple[str, int | str], Fit]) -> pd.DataFrame:
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


def descended(config: RunConfig, seed: int = 0) -> float:
    """Expected squared error above the noise, summed over targets, of a read-out of Gaussian
    features after one pass by gradient descent with a learning rate that goes down to 0.

    The mean squares m_i of the errors along the axes of the Hessian follow

        m_i -> m_i (1 - 2 e h_i + e^2 h_i^2 (1 + 1/B)) + e^2 h_i (sum_j h_j m_j + out + noise^2) / B

    with the Hessian's eigenvalues h, the learning rate e, batches of B and, for `out`, what no
    read-out of the features can have: exact for Gaussian features, whose fourth moments are known.
    One draw of the features stands for all.
    """
    data: Any = config.data
    variances = PowerLaw(data.features, 1, data.alpha, data.noise, 0).variances
    features = np.random.default_rng(seed).normal(size=(config.model.width, data.features))
    features /= np.sqrt(config.model.width)
    h, axes = np.linalg.eigh((features * variances) @ features.T)
    h = np.maximum(h, 1e-12)
    with_teacher = (((features * variances).T @ axes) ** 2).sum(
        axis=0
    )  # squares, mean over teachers
    out = max(0.0, 1 - (with_teacher / h).sum())
    m, batch, steps = with_teacher / h**2, config.train.batch_size, resolved(config.train.steps)
    for step in range(steps):
        rate = 2 * config.optim.peak_lr * config.model.width * (1 - step / steps)  # no half in it
        noise = ((h * m).sum() + out + data.noise**2) / batch
        m = m * (1 - 2 * rate * h + (rate * h) ** 2 * (1 + 1 / batch)) + rate**2 * h * noise
    return float(data.targets * ((h * m).sum() + out))


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
    given = of_study.flags(__doc__).parse_args()
    tables, fits = {}, {}
    for task in TASKS:
        for repeat in range(REPEATS):
            if (found := of_task(given.workdir, task, repeat)) is not None:
                tables[task, repeat], fits[task, repeat] = found
    if not fits:
        raise SystemExit(f"--workdir={given.workdir} has no whole study of known_laws.py")
    every: tuple[Mapping[Any, Fit], ...] = (fits, together(tables, fits))
    for some in every:
        if some:
            found = compare(some)
            print(found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
            print(f"{found['holds'].sum()} of {len(found)} intervals hold the truth")
    if ("seen_once", 0) in tables:
        runs = [c for c in study.runs(get_study("seen_once")) if c.seed == 0]
        print("seen_once, above the floor, reckoned:", [round(descended(c), 2) for c in runs])
        own = tables["seen_once", 0]
        print(
            "and trained:",
            own.groupby(fits["seen_once", 0].x["x"])["distance"].mean().round(2).tolist(),
        )
    if given.figure:
        of_study.write(draw(tables, fits), given.figure)


if __name__ == "__main__":
    main()
