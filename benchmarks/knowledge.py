"""How many bits do models know, a parameter? The law of capacity on the runs of a study.

    python launch.py sweep --experiment=experiments/knowledge.py
    python -m benchmarks.knowledge --experiment=experiments/knowledge.py [--figure=FILE]

Takes the runs that have ended. Fits `capacity` to those of each number of exposures, and where
there are several `capacity_exposures` to all; prints R, bits a parameter, with intervals of 90 %,
beside what Allen-Zhu and Li 2024 (arXiv 2404.05405) found. --updates=1000 leaves runs of fewer
updates out, which say more of optimization than of capacity. With --known=wrong the bits are those
of that evaluation set, and runs that differ in `data.misses` are fitted apart. Of
`experiments/knowledge.py:graph` it prints and draws ranks over width instead.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.result import Fit
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study

PUBLISHED = {100: 1.0, 1000: 2.0}  # exposures -> bits a parameter
LEAST = 4  # runs of a fit
RANK = "reciprocal_rank"


def bits(runs: pd.DataFrame, known: str = "told") -> pd.DataFrame:
    """The runs that have ended, with the columns of the laws; `known`: the evaluation set."""
    done = runs[runs["status"] == "done"].copy()
    done["exposures"] = done["epochs"].round()
    done["known_bits"] = done["unique"] * done[f"known_bits/{known}"]
    done["total_bits"] = done["unique"] * done[f"fact_bits/{known}"]
    done["misses"] = done["data.misses"].astype(float) if "data.misses" in done else np.nan
    return done


def fitted(done: pd.DataFrame) -> dict[tuple[float, float], Fit]:
    """(exposures, misses) -> the law of capacity of the runs that are alike in both."""
    found = {}
    for (times, misses), rows in done.groupby(["exposures", "misses"], dropna=False):
        # What is guessed worse than by one who knows nothing has no logarithm.
        rows = rows[rows["known_bits"] > 0]
        if len(rows) >= LEAST:
            found[times, misses] = fit(rows, "capacity", Options(delta=0.1))
    return found


def said(found: dict[tuple[float, float], Fit]) -> pd.DataFrame:
    """A row for each fit."""
    rows = []
    for (times, misses), one in found.items():
        low, high = one.intervals["R"]
        row = {"exposures": times, "misses": misses, "runs": one.n, "R": one.params["R"]}
        row |= {"low": low, "high": high, "k": one.params["k"]}
        rows.append(row | {"published": PUBLISHED.get(round(times), np.nan)})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def ranks(done: pd.DataFrame) -> pd.DataFrame:
    """A row for each family and width: means over seeds, and the standard error of the rank that is
    larger, by the triples or by the seeds.
    """
    groups = done.groupby(["model.family", "width"])
    out = groups[[RANK, "hits_1", "hits_10", f"{RANK}/told"]].mean()
    error = np.maximum(groups[f"{RANK}_se"].mean(), groups[RANK].sem().fillna(0))
    return out.assign(**{f"{RANK}_se": error}).reset_index()


def draw_ranks(means: pd.DataFrame, path: Path) -> None:
    """Mean reciprocal ranks of triples that were held out, and of those that were not, over
    width.
    """
    with style.styled():
        figure = Figure(figsize=(4.8, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, (family, rows) in enumerate(means.groupby("model.family")):
            colour = style.COLOURS[k]
            axes.errorbar(rows["width"], rows[RANK], rows[f"{RANK}_se"], fmt="o-", color=colour,
                          label=f"{family}, held out")  # fmt: skip
            axes.plot(rows["width"], rows[f"{RANK}/told"], "s:", color=colour,
                      label=f"{family}, trained on")  # fmt: skip
        axes.set(xscale="log", xlabel="width", ylabel="mean reciprocal rank", ylim=(0, 1))
        axes.set_xticks(sorted(set(means["width"])), [str(w) for w in sorted(set(means["width"]))])
        axes.minorticks_off()
        axes.legend()
        figure.savefig(path, dpi=160)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the fits; with --figure, draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="experiments/knowledge.py")
    parser.add_argument("--workdir", default="out")
    parser.add_argument("--known", default="told")
    parser.add_argument("--updates", type=int, default=0)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args(arguments)
    configs = study.runs(study.load_study(asked.experiment))
    runs = table([RunDirectory.open(c, asked.workdir) for c in configs])
    if RANK in runs:
        means = ranks(runs[runs["status"] == "done"])
        print(means.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
        if asked.figure:
            draw_ranks(means, asked.figure)
        return
    done = bits(runs, asked.known)
    if asked.updates:
        done = done[done["train.steps"] >= asked.updates]
    found = fitted(done)
    if not found:
        raise UserError(f"{asked.workdir} has no {LEAST} finished runs of {asked.experiment}")
    print(said(found).to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if len({times for times, _ in found}) > 2 and done["misses"].isna().all():
        print(fit(done[done["known_bits"] > 0], "capacity_exposures", Options(delta=0.1)))
    if asked.figure:
        draw(done, found, asked.figure)


def draw(done: pd.DataFrame, found: dict[tuple[float, float], Fit], path: Path) -> None:
    """Bits known over bits told, both a parameter: runs, and the laws through them."""
    with style.styled():
        figure = Figure(figsize=(4.8, 4.2), layout="constrained")
        axes = figure.subplots()
        told = done["total_bits"] / done["params"]
        marks = dict(zip(sorted(set(done["width"])), "osD^v*", strict=False))
        line = np.geomspace(told.min() / 1.2, told.max() * 1.2, 100)
        for k, ((times, misses), one) in enumerate(sorted(found.items())):
            colour = style.COLOURS[k % len(style.COLOURS)]
            alike = (done["exposures"] == times) & (
                done["misses"].isna() if np.isnan(misses) else done["misses"] == misses
            )
            rows = done[alike]
            for width, marker in marks.items():
                some = rows[rows["width"] == width]
                axes.plot(some["total_bits"] / some["params"],
                          some["known_bits"] / some["params"], marker, color=colour)  # fmt: skip
            at = {"params": np.ones(len(line)), "total_bits": line}
            label = f"told {times:.0f} times"
            label += "" if np.isnan(misses) else f", {100 * misses:.0f} % missed"
            axes.plot(line, one.draws(at)[0], color=colour, label=label)
        axes.plot(line, line, color="0.6", linestyle=":", label="all that there is")
        axes.axhline(PUBLISHED[1000], color="0.6", linestyle="--", label="published, 1,000 times")
        axes.set(xscale="log", xlabel="bits told / parameter", ylabel="bits known / parameter")
        axes.set_ylim(bottom=min(0, 1.1 * (done["known_bits"] / done["params"]).min()), top=4)
        for width, marker in marks.items():
            axes.plot([], [], marker, color="0.4", label=f"width {width}")
        axes.set_xticks([1, 2, 3, 4, 6], ["1", "2", "3", "4", "6"])
        axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
