"""What was learned and what forgotten of tasks in a row, by method and width, with intervals.

    python launch.py sweep --experiment=experiments/continual.py
    python -m benchmarks.continual --experiment=experiments/continual.py [--figure=FILE]

For every method and width means over seeds, each with the interval of Student's t of 90 % over
them: accuracy over all tasks at the end; what was forgotten of the earlier ones; that less what the
naive row of the same seed forgot; and transfer, by how much a task is known better as it has just
been learned than by a run on it alone. Adapters forget nothing: a task's own is used for it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import of_study
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study

NAIVE, ADAPTERS = "naive", "adapters"
METHODS = {"whole": NAIVE, "mixed": "replay", "ewc": "EWC", "distilled": "LwF", "lora": ADAPTERS}
MEASURES = ("known", "forgotten", "less", "transfer")


def rows_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A row of measures for each method, width and seed, of the table of all runs of a study."""
    frame = frame[frame["status"] == "done"]
    begun = frame["amount_before"] > 0
    alone = frame[~begun].set_index(["width", "seed", "corpus"])["accuracy"].sort_index()
    count = int(frame["tasks"].max())
    in_rows = frame[begun].assign(
        method=[METHODS[text.split()[0]] for text in frame[begun]["trained"]]
    )
    found = []
    for (method, width, seed), runs in in_rows.groupby(["method", "width", "seed"]):
        later = runs["accuracy"].to_numpy()
        own = alone[[(width, seed, corpus) for corpus in runs["corpus"]]].to_numpy()
        if method == ADAPTERS:
            tasks = alone[width, seed]
            first = tasks[~tasks.index.isin(runs["corpus"])].iloc[0]
            known, forgotten = (first + later.sum()) / count, 0.0
        else:
            last = runs[runs["tasks"] == count].iloc[0]
            known, forgotten = last["accuracy_of_tasks"], last["accuracy_forgotten"]
        key = {"method": method, "width": width, "seed": seed}
        transfer = (later - own).mean()
        found.append(key | {"known": known, "forgotten": forgotten, "transfer": transfer})
    out = pd.DataFrame(found)
    naive = out[out["method"] == NAIVE].set_index(["width", "seed"])["forgotten"]
    out["less"] = [
        of - naive[width, seed]
        for of, width, seed in zip(out["forgotten"], out["width"], out["seed"], strict=True)
    ]
    return out


def interval(values: Sequence[float], level: float = 0.9) -> tuple[float, float]:
    """(mean, half of the interval), in points."""
    each = 100 * np.asarray(values, float)
    if len(each) < 2:
        return float(each.mean()), float("nan")
    width = stats.t.ppf((1 + level) / 2, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return float(each.mean()), float(width)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and half interval of each measure, by method and width."""
    found = []
    for (method, width), own in rows.groupby(["method", "width"]):
        of = {name: interval(own[name]) for name in MEASURES}
        means = {name: mean for name, (mean, _) in of.items()}
        halves = {f"{name}_within": half for name, (_, half) in of.items()}
        found.append({"method": method, "width": width} | means | halves)
    order = list(METHODS.values())
    return pd.DataFrame(found).sort_values(
        ["width", "method"], key=lambda c: c if c.name == "width" else c.map(order.index)
    )


def draw(found: pd.DataFrame, path: Path) -> None:
    """What is known of all tasks, and what was forgotten, over width."""
    shown = {"known": "accuracy over all tasks (%)", "forgotten": "forgotten (points)"}
    with style.styled():
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        for axes, (name, text) in zip(figure.subplots(1, 2), shown.items(), strict=True):
            for i, method in enumerate(METHODS.values()):
                own = found[found["method"] == method]
                axes.errorbar(
                    own["width"] * 1.06 ** (i - 2), own[name], own[f"{name}_within"], label=method,
                    color=style.COLOURS[i], marker=style.MARKERS[i], markersize=5, capsize=3,
                )  # fmt: skip
            widths = sorted(found["width"].unique())
            axes.set(xscale="log", xlabel="width", ylabel=text)
            axes.set_xticks(widths, [f"{width:g}" for width in widths])
            axes.minorticks_off()
        style.legend_below(figure, axes)
        style.finish(figure)
        of_study.write(figure, path)


def main() -> None:
    """Prints the table of means."""
    parser = of_study.flags(__doc__)
    parser.add_argument("--experiment", required=True)
    asked = parser.parse_args()
    plan = study.load_study(asked.experiment)
    runs = [RunDirectory.open(config, asked.workdir) for config in study.runs(plan)]
    found = summary(rows_of(table(runs)))
    print("method    width  known         forgotten     less than naive  transfer")
    for _, row in found.iterrows():
        texts = [f"{row[name]:6.1f} ± {row[f'{name}_within']:4.1f}" for name in MEASURES]
        print(f"{row['method']:9} {row['width']:5.0f} {'  '.join(texts)}")
    if asked.figure:
        draw(found, asked.figure)


if __name__ == "__main__":
    main()
