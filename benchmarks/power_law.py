"""Trained models against theory: the power-law studies of a workdir, and what theory has.

    python launch.py sweep --experiment=experiments/power_law.py --workdir=out
    python launch.py sweep --experiment=experiments/power_law.py:examples --workdir=out
    python -m benchmarks.power_law --workdir=out [--figure=power_law.png]

Prints for each spectrum, of the width and of the examples, the exponent of the law `power` (the
targets have no noise) fitted to the runs, with its 90 % interval; theory's, which is the
spectrum's; what the same fit makes of the theory's own losses at these sizes; and the losses over
theirs.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.power_law import RATIO, SPECTRA
from scaling import laws
from scaling.config import fingerprint, flat
from scaling.data.kinds.vectors.task import PowerLaw
from scaling.data.kinds.vectors.theory import expected
from scaling.records import find_runs
from scaling.records.tables import table
from scaling.report import style

# What is varied, and what there is four times as much of.
SIDES = {"random features": "examples", "examples": "random features"}


def losses(workdir: str) -> pd.DataFrame:
    """A row a run of the two studies: alpha, what is `varied`, its `size`, and the mean square
    error of a target, as it was measured and as theory has it.
    """
    configs = {fingerprint(c): c for c in (run.config() for run in find_runs(workdir))}
    rows = []
    for found in table(workdir).to_dict("records"):
        config = configs[found["fingerprint"]]
        data: Any = config.data
        width, values = config.model.width, flat(config)
        examples = getattr(data, "unique_examples", None)
        if found["status"] != "done" or examples not in (RATIO * width, width / RATIO):
            continue
        if not any(all(values[k] == v for k, v in one.items()) for one in SPECTRA):
            continue
        variances = PowerLaw(data.features, 1, data.alpha, data.noise, 0).variances
        theory = expected(variances, width, examples, data.noise).loss
        varied = "random features" if width < examples else "examples"
        measured = found["loss"] / data.targets
        rows.append((data.alpha, varied, min(width, examples), measured, theory))
    if not rows:
        raise of_study.nothing(workdir, "power_law.py")
    return pd.DataFrame(rows, columns=["alpha", "varied", "size", "measured", "theory"])


def compare(found: pd.DataFrame) -> pd.DataFrame:
    """A row a spectrum and what is varied: exponents, and how far the losses are from theory's."""
    rows = []
    for (varied, alpha), runs in found.groupby(["varied", "alpha"], sort=False):
        fit = laws.fit(runs, "power", laws.Options(x="size", loss="measured"))
        options = laws.Options(x="size", loss="theory", bootstrap=0)
        known = laws.fit(runs.drop_duplicates("size"), "power", options, checks=False)
        low, high = fit.intervals["alpha"]
        off = np.log(runs["measured"] / runs["theory"])
        row = {"varied": varied, "runs": len(runs), "fitted": fit.params["alpha"], "low": low}
        row |= {"high": high, "theory": alpha, "holds": low <= alpha <= high}
        row |= {"of theory's losses": known.params["alpha"], "loss/theory": np.exp(off.mean())}
        rows.append(
            row | {"largest/theory": np.exp(off[runs["size"] == runs["size"].max()].mean())}
        )
    return pd.DataFrame(rows)


def draw(found: pd.DataFrame) -> Figure:
    """The runs over the theory's curves; a panel for each thing that is varied."""
    with style.styled():
        figure = Figure(figsize=(8.6, 4.3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (varied, more) in zip(panels, SIDES.items(), strict=True):
            groups = found[found["varied"] == varied].groupby("alpha")
            for colour, marker, (alpha, runs) in zip(
                style.COLOURS, style.MARKERS, groups, strict=False
            ):
                line = runs.drop_duplicates("size").sort_values("size")
                label = f"theory, exponent {alpha:g}"
                axes.plot(line["size"], line["theory"], color=colour, label=label)
                axes.plot(runs["size"], runs["measured"], marker, color=colour, ms=4, alpha=0.5)
            axes.set(xscale="log", yscale="log", xlabel=f"{varied} ({RATIO} times as many {more})")
            style.count_axis(axes, sorted(found["size"].unique()))
        panels[0].set_ylabel("squared error of a target")
        panels[0].legend()
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = losses(given.workdir)
    print(compare(found).to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
