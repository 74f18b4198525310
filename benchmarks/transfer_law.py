"""What pretraining was worth, in data: the law of transfer, of the runs of a study.

    python launch.py sweep --experiment=experiments/finetune.py:law --workdir=out
    python -m benchmarks.transfer_law --experiment=experiments/finetune.py:law --workdir=out \\
      --table=transferred.csv [--figure=transferred.png]
    python launch.py fit --table=transferred.csv --law=transfer

Prints and writes for each tuned run the distinct data that it had and those that a model of its
size from scratch needs for the same loss, the former taken off. NaN where that is more than the
largest run from scratch had, which no table holds: `fit` would not know of it.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks import of_study
from scaling.laws.transferred import transferred
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study
from scaling.units import human

_SHOWN = ("name", "trained", "params", "tuned_tokens", "loss", "transferred")


def draw(found: pd.DataFrame) -> Figure:
    """What pretraining was worth over the data that were tuned on, a line a size."""
    with style.styled():
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        axes = figure.subplots()
        for i, (params, own) in enumerate(found.groupby("params")):
            means = own.groupby("tuned_tokens")["transferred"].mean()
            axes.plot(means, "o-", color=style.COLOURS[i], label=human(params))
        axes.set(xscale="log", yscale="log", xlabel="data tuned on", ylabel="data transferred")
        amounts = sorted(found["tuned_tokens"].unique())
        axes.set_xticks(amounts, [human(amount) for amount in amounts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: human(value))
        axes.yaxis.set_minor_formatter(lambda value, _: human(value))
        style.legend_below(figure, axes, "parameters")
        style.finish(figure)
    return figure


def main() -> None:
    """Prints the table, and writes it and draws it if files are named."""
    parser = of_study.flags(__doc__)
    parser.add_argument("--experiment", required=True, help="whose runs are from scratch and tuned")
    parser.add_argument("--amount", default="unique", help="column of the data that are tuned on")
    parser.add_argument("--table", help="a CSV to write")
    given = parser.parse_args()
    # Runs that others begin with are no part of a study.
    asked = study.load_study(given.experiment)
    done = [run for _, run in of_study.finished(asked, given.workdir)]
    if not done:
        raise of_study.nothing(given.workdir, given.experiment)
    found = transferred(table(done).rename(columns={given.amount: "tuned_tokens"}))
    shown = found[[*_SHOWN]].sort_values([*_SHOWN[1:4]])
    print(shown.to_string(index=False))
    if given.table:
        shown.dropna().to_csv(given.table, index=False)
    if given.figure:
        of_study.write(draw(shown), given.figure)


if __name__ == "__main__":
    main()
