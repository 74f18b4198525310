"""What a budget of joules buys beside a budget of FLOPs: the best size of each.

    python launch.py sweep --experiment=experiments/energy.py --pack=off --workdir=out
    python -m benchmarks.energy --workdir=out [--figure=FILE]

Fits three laws to the runs: the loss over parameters N and units of data D (Hoffmann et al. 2022:
E + A / N^a + B / D^b), and the FLOPs and the joules of a unit as powers of N, these of the largest
budget, whose runs waste least on their beginnings. Prints what they say together: the size that is
best for a budget of FLOPs and for one of joules, and what is lost by taking the first for the
second. Intervals of 90 % are those of draws of all three fits. Joules are as of the table: by a
meter where the machine has one, else power times time, which the line at the end says.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.energy import get_study
from scaling import laws
from scaling.laws import Fit
from scaling.records.tables import table
from scaling.report import style

SIZES = np.geomspace(5e3, 2e6, 600)  # parameters, among which the best is looked for


@dataclass(frozen=True)
class Fits:
    """The loss, and what a unit of data costs in FLOPs and joules."""

    loss: Fit
    flops: Fit
    joules: Fit


def fitted(runs: pd.DataFrame) -> Fits:
    """`runs` is a table with the columns loss, params, flops, joules and the amount of data."""
    unit = f"{runs['unit'].iloc[0]}s"
    each = runs.assign(per_flops=runs["flops"] / runs[unit], per_joules=runs["joules"] / runs[unit])
    largest = _largest(each)
    return Fits(
        laws.fit(runs, "chinchilla", laws.Options(delta=0.01)),
        *(
            # The power of growth: a law of the inverse falls.
            laws.fit(
                largest.assign(inverse=1 / largest[name]),
                "power",
                laws.Options(x="params", loss="inverse", delta=1.0),
            )
            for name in ("per_flops", "per_joules")
        ),
    )


def _largest(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of the largest budget."""
    return runs[runs["flops"] > 0.9 * runs["flops"].max()]


def _losses(fits: Fits, cost: Fit, budget: float) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each of SIZES for a budget of what `cost` counts: [sizes] and [draws, sizes]."""
    inverse, drawn = cost.draws(SIZES)
    best, params = _law(fits.loss, budget * inverse), fits.loss.samples
    count = min(len(params), len(drawn))
    every = [
        _law(fits.loss, budget * drawn[i], dict(zip(fits.loss.free, params[i], strict=True)))
        for i in range(count)
    ]
    return best, np.array(every)


def _law(fit: Fit, amounts: np.ndarray, params: dict[str, float] | None = None) -> np.ndarray:
    p = {**fit.params, **(params or {})}
    return p["E"] + p["A"] / SIZES ** p["alpha"] + p["B"] / amounts ** p["beta"]


def best_sizes(fits: Fits, flops: float) -> dict[str, Any]:
    """At the joules that `flops` cost at their own best size: the best sizes of both budgets, their
    ratio, and by how many nats the first is worse at equal joules; each (value, low, high).
    """
    of_flops = _losses(fits, fits.flops, flops)
    i = int(of_flops[0].argmin())
    joules = flops * fits.flops.draws(SIZES[i])[0][0] / fits.joules.draws(SIZES[i])[0][0]
    of_joules = _losses(fits, fits.joules, float(joules))
    count = min(len(of_flops[1]), len(of_joules[1]))

    def both(pick: Any) -> tuple[float, float, float]:
        value = pick(of_flops[0], of_joules[0])
        drawn = [pick(of_flops[1][k], of_joules[1][k]) for k in range(count)]
        low, high = map(float, np.quantile(drawn, (0.05, 0.95)))
        return float(value), low, high

    return {
        "flops": flops,
        "joules": float(joules),
        "best for flops": both(lambda f, j: SIZES[f.argmin()]),
        "best for joules": both(lambda f, j: SIZES[j.argmin()]),
        "ratio": both(lambda f, j: SIZES[j.argmin()] / SIZES[f.argmin()]),
        "lost": both(lambda f, j: j[f.argmin()] - j.min()),
    }


def draw(runs: pd.DataFrame, fits: Fits) -> Figure:
    """Left the loss over joules, a curve a width, and the lowest by the laws; right the joules of a
    billion FLOPs over parameters.
    """
    with style.styled():
        figure = Figure(figsize=(9, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for colour, (width, own) in zip(style.COLOURS, runs.groupby("width"), strict=False):
            own = own.sort_values("joules")
            label = f"width {width}"
            left.plot(own["joules"], own["loss"], "o-", color=colour, ms=4, lw=1, label=label)
        budgets = np.geomspace(runs["joules"].min(), runs["joules"].max(), 40)
        units = fits.joules.draws(SIZES)[0]  # of a joule
        least = [_law(fits.loss, joules * units).min() for joules in budgets]
        left.plot(budgets, least, "--", color=style.INK, label="best size, by the laws")
        left.set(xscale="log", xlabel="energy of training, joules", ylabel="validation loss")
        figure.legend(loc="outside lower center", ncols=4)
        sizes = np.sort(runs["params"].unique())
        for data, look in ((runs, {"mfc": "none", "alpha": 0.5}), (_largest(runs), {})):
            each = 1e9 * data["joules"] / data["flops"]
            right.plot(data["params"], each, "o", color=style.BLUE, ms=4, **look)
        grid = np.geomspace(sizes[0], sizes[-1], 50)
        ratio = fits.flops.draws(grid)[0] / fits.joules.draws(grid)[0]
        right.plot(grid, 1e9 * ratio, "--", color=style.INK)
        right.set(yscale="log", xlabel="parameters", ylabel="joules of a billion FLOPs")
        for formatter in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
            formatter("{x:.2g}")
        style.count_axis(right, list(sizes))
        style.finish(figure)
    return figure


def _said(value: tuple[float, float, float], form: str) -> str:
    return "{} ({} to {})".format(*(format(v, form) for v in value))


def main() -> None:
    """Prints what the laws say, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = of_study.finished(get_study(), given.workdir)
    if not found:
        raise of_study.nothing(given.workdir, "energy.py")
    runs = table([run for _, run in found])
    fits = fitted(runs)
    p, i = fits.loss.params, fits.loss.intervals
    print("loss:", ", ".join(f"{n} {p[n]:.4g} ({i[n][0]:.4g} to {i[n][1]:.4g})" for n in p))
    for name, fit in (("FLOPs", fits.flops), ("joules", fits.joules)):
        low, high = fit.intervals["alpha"]
        grows = fit.params["alpha"]
        # Where both terms of the loss fall at one rate, as they do at the best size.
        falls = p["alpha"] * p["beta"] / (p["alpha"] + grows * p["beta"])
        print(
            f"{name} a unit ~ params^{grows:.3f} ({low:.3f} to {high:.3f}), the best loss above "
            f"its floor ~ {name}^-{falls:.2f}"
        )
    for budget in sorted({float(f"{flops:.1e}") for flops in runs["flops"]}):
        at = best_sizes(fits, budget)
        print(
            f"{budget:.2g} FLOPs, {at['joules']:.0f} J: best for FLOPs "
            f"{_said(at['best for flops'], '.3g')} parameters, for joules "
            f"{_said(at['best for joules'], '.3g')}, ratio {_said(at['ratio'], '.2f')}; by the "
            f"first for the second {_said(at['lost'], '.4f')} are lost"
        )
    print("joules:", ", ".join(sorted(set(runs["joules_by"]))))
    if given.figure:
        of_study.write(draw(runs, fits), given.figure)


if __name__ == "__main__":
    main()
