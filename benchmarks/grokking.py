"""Right answers over the steps of training: the grokking study of a workdir.

    python launch.py sweep --experiment=experiments/grokking.py --workdir=out
    python -m benchmarks.grokking --workdir=out [--figure=grokking.png]

Prints for every weight decay and every share of the pairs that is trained on the steps after which
95 % of the training examples, and of the others, are right, and the factor between the two.
"""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import of_study
from experiments.grokking import get_study
from scaling.report import style

RIGHT = 0.95


def curves(workdir: str) -> dict[tuple[float, float, int], pd.DataFrame]:
    """(weight decay, share, seed) -> the accuracies `seen` and `val` by step."""
    found = {}
    for config, run in of_study.finished(get_study(), workdir):
        lines = pd.DataFrame(run.metrics())
        lines = lines[lines["split"].isin(["seen", "val"])]
        key = (config.optim.weight_decay, config.data.train_share, config.seed)
        found[key] = lines.pivot(index="step", columns="split", values="accuracy")
    return found


def reached(curve: pd.Series) -> float:
    """The step of the first evaluation with so many right; NaN: there is none."""
    steps = curve.index[curve >= RIGHT]
    return float(steps[0]) if len(steps) else float("nan")


def compare(found: dict[tuple[float, float, int], pd.DataFrame]) -> pd.DataFrame:
    """A row a run."""
    rows = []
    for (decay, share, seed), lines in found.items():
        seen, held = reached(lines["seen"]), reached(lines["val"])
        row = {"weight decay": decay, "share": share, "seed": seed, "known after": seen}
        row |= {"understood after": held, "factor": held / seen}
        rows.append(row | {"held out": lines["val"].iloc[-1], "best": lines["val"].max()})
    return pd.DataFrame(rows).sort_values(["share", "weight decay", "seed"], ignore_index=True)


def draw(found: dict[tuple[float, float, int], pd.DataFrame]) -> Figure:
    """Accuracies over steps: by weight decay, and by share."""
    decays = sorted({(decay, 0.5) for decay, share, _ in found if share == 0.5})
    largest = max(decay for decay, _ in decays)
    shares = sorted({(decay, share) for decay, share, _ in found if decay == largest})
    with style.styled():
        figure = Figure(figsize=(8.6, 4.3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        named = ("weight decay {0:g}", "{1:.0%} of the pairs")
        for axes, keys, name in zip(panels, (decays, shares), named, strict=True):
            for key, colour in zip(keys, style.ramp(len(keys)), strict=True):
                curves = [lines for of, lines in found.items() if of[:2] == key]
                for i, lines in enumerate(curves):
                    label = None if i else name.format(*key)
                    axes.plot(lines.index, lines["val"], color=colour, lw=1.4, label=label)
                    axes.plot(lines.index, lines["seen"], color=colour, lw=0.9, ls=(0, (2, 2)))
            axes.plot([], [], color=style.INK, lw=0.9, ls=(0, (2, 2)), label="trained on")
            axes.set(xscale="log", xlabel="step")
            axes.legend(loc="upper left")
        panels[0].set_ylabel("right answers")
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and draws the figure if one is asked for."""
    given = of_study.flags(__doc__).parse_args()
    found = curves(given.workdir)
    if not found:
        raise of_study.nothing(given.workdir, "grokking.py")
    print(compare(found).to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    if given.figure:
        of_study.write(draw(found), given.figure)


if __name__ == "__main__":
    main()
