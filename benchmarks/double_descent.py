"""Wrong answers over the steps of training: the study of double descent over epochs.

    python launch.py sweep --experiment=experiments/double_descent.py:epochs --workdir=out
    python -m benchmarks.double_descent --workdir=out [--figure=double_descent_epochs.png]

Prints for each share of wrong labels the least error before its largest rise, the height of that
rise and the least error behind it, means of a tenth of the evaluations each, with standard errors
over seeds.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.double_descent import get_study
from scaling.report import style

SHARE = 0.1  # of the evaluations, which a mean is taken over: one by itself is noise


def curves(workdir: str) -> dict[float, pd.DataFrame]:
    """Share of wrong labels -> the held-out error by step, a column a seed."""
    found = dict[float, dict[int, pd.Series]]()
    for config, run in of_study.finished(get_study("epochs"), workdir):
        lines = pd.DataFrame(run.metrics())
        lines = lines[lines["split"] == "val"].set_index("step")
        data: Any = config.data
        found.setdefault(data.label_noise, {})[config.seed] = 1 - lines["accuracy"]
    return {noise: pd.DataFrame(of) for noise, of in found.items()}


def three(errors: pd.DataFrame) -> dict[str, str]:
    """The first low, the peak behind it and the low behind that, each where the mean over seeds has
    it: mean and standard error over seeds.
    """
    window = max(1, round(SHARE * len(errors)))
    smooth = errors.rolling(window, center=True).mean().dropna()
    mean = smooth.mean(axis=1).to_numpy()
    rises = np.maximum.accumulate(mean[::-1])[::-1] - mean  # how high it gets behind each
    low = int(np.argmax(rises))
    peak = low + int(np.argmax(mean[low:]))
    last = peak + int(np.argmin(mean[peak:]))
    row = {}
    for name, at in (("low", low), ("peak", peak), ("second low", last)):
        of = smooth.iloc[at]
        row[name] = f"{of.mean():.3f} ± {of.sem():.3f} at {smooth.index[at]}"
    for name, other in (("rise", low), ("fall", last)):
        paired = smooth.iloc[peak] - smooth.iloc[other]
        row[name] = f"{paired.mean():.3f} ± {paired.sem():.3f}"
    return row


def draw(found: dict[float, pd.DataFrame]) -> Figure:
    """Error over steps: seeds thin, their mean thick."""
    with style.styled():
        figure = Figure(figsize=(4.8, 3.8), layout="constrained")
        axes = figure.subplots()
        for (noise, errors), colour in zip(sorted(found.items()), style.COLOURS, strict=False):
            axes.plot(errors.index, errors, color=colour, lw=0.7, alpha=0.5)
            mean = errors.mean(axis=1)
            axes.plot(errors.index, mean, color=colour, lw=1.8, label=f"{noise:.0%} wrong labels")
        axes.set(xscale="log", xlabel="step", ylabel="held-out error", ylim=(0, None))
        last = max(errors.index.max() for errors in found.values())
        ticks = [last // 2**k for k in range(5, -1, -1)]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.legend()
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = curves(given.workdir)
    if not found:
        raise of_study.nothing(given.workdir, "double_descent.py:epochs")
    for noise, errors in sorted(found.items()):
        said = ", ".join(f"{name} {value}" for name, value in three(errors).items())
        print(f"{noise:.0%} wrong labels, {errors.shape[1]} seeds: {said}")
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
