"""What pretraining was worth, in data: the law of transfer, of the fine-tuning runs of a workdir.

    python launch.py sweep --experiment=experiments/bert_finetune.py --workdir=out
    python -m benchmarks.transfer_law --workdir=out --table=transferred.csv
    python launch.py fit --table=transferred.csv --law=transfer

Prints and writes for each tuned run the distinct examples of the task that it had and those that a
model of its size from scratch needs for the same loss, the former taken off.
"""

import argparse

from scaling.laws.transferred import transferred
from scaling.records.tables import table


def main() -> None:
    """Prints the table, and writes it if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", required=True, help="of the study")
    parser.add_argument("--objective", default="tagging", help="of the runs on the task")
    parser.add_argument("--amount", default="unique", help="column of the data of the task")
    parser.add_argument("--table", help="a CSV to write")
    given = parser.parse_args()
    rows = table(given.workdir)
    rows = rows[(rows["objective"] == given.objective) & rows["loss"].notna()]
    found = transferred(rows.rename(columns={given.amount: "tuned_tokens"}))
    shown = found[["name", "trained", "params", "tuned_tokens", "loss", "transferred"]]
    print(shown.to_string(index=False))
    if given.table:
        shown.dropna().to_csv(given.table, index=False)


if __name__ == "__main__":
    main()
