"""What pretraining was worth, in data: the law of transfer, of the runs of a study.

    python launch.py sweep --experiment=experiments/finetune.py:law --workdir=out
    python -m benchmarks.transfer_law --experiment=experiments/finetune.py:law --workdir=out \\
      --table=transferred.csv
    python launch.py fit --table=transferred.csv --law=transfer

Prints and writes for each tuned run the distinct data that it had and those that a model of its
size from scratch needs for the same loss, the former taken off. NaN where that is more than the
largest run from scratch had, which no table holds: `fit` would not know of it.
"""

import argparse

from benchmarks import of_study
from scaling.laws.transferred import transferred
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.studies import study

_SHOWN = ("name", "trained", "params", "tuned_tokens", "loss", "transferred")


def main() -> None:
    """Prints the table, and writes it if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--experiment", required=True, help="whose runs are from scratch and tuned")
    parser.add_argument("--workdir", default="out", help="of the study")
    parser.add_argument("--amount", default="unique", help="column of the data that are tuned on")
    parser.add_argument("--table", help="a CSV to write")
    given = parser.parse_args()
    # Runs that others begin with are no part of a study.
    runs = study.runs(study.load_study(given.experiment))
    opened = [RunDirectory.open(config, given.workdir) for config in runs]
    done = [run for run in opened if run.status().get("state") == "done"]
    if not done:
        raise of_study.nothing(given.workdir, given.experiment)
    found = transferred(table(done).rename(columns={given.amount: "tuned_tokens"}))
    shown = found[[*_SHOWN]].sort_values([*_SHOWN[1:4]])
    print(shown.to_string(index=False))
    if given.table:
        shown.dropna().to_csv(given.table, index=False)


if __name__ == "__main__":
    main()
