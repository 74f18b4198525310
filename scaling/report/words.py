"""What the columns of a table are called: by the unit of its data and the metrics of its objective.

Takes the table of `scaling/records/tables.py`, of runs of one unit and one objective; gives labels
for axes, titles and sentences. Called by all files of this room, so that no word on a page is of
one kind of data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scaling.config.contracts import Metric
from scaling.records.conventions import MAIN, metrics_of, values_in
from scaling.units import human, labels

LABELS = {
    "params": "parameters",
    "trained": "trained",
    "amount_before": "amount of data seen before",
    "params_trained": "trained parameters",
    "params_non_embedding": "non-embedding parameters",
    "params_active": "active parameters",
    "epochs": "epochs",
    "flops": "training FLOPs",
    "width": "width (channels)",
    "depth": "depth (blocks)",
    "seconds": "wall-clock time (s)",
    "joules": "energy (J)",
    "grams_co2": "carbon dioxide (g)",
    "optim.peak_lr": "peak learning rate",
    "train.batch_size": "batch size (rows)",
}
_SIZES = ("params", "params_non_embedding", "params_active")


def measured(metric: Metric, what: str = "") -> str:
    """ "validation loss (bits/byte)" of what="validation"; without what the label says already."""
    name = f"{what} {metric.label}".strip()
    said = metric.label.replace(" per ", "/") == metric.unit  # "bits per byte"
    return f"{name} ({metric.unit})" if metric.unit and not said else name


@dataclass(frozen=True)
class Words:
    """Of runs of one unit of data and one objective."""

    unit: str = ""  # in the singular; "": no run says it
    metrics: Mapping[str, Metric] = field(default_factory=lambda: metrics_of(None))

    @property
    def amount(self) -> str:
        """The column of what was trained on, and the unit in the plural."""
        return f"{self.unit}s" if self.unit else "amount"

    @property
    def unique(self) -> str:
        """The column of distinct training data."""
        return f"unique_{self.amount}" if self.unit else "unique"

    @property
    def amounts(self) -> tuple[str, ...]:
        """Columns that follow from a number of steps, so that equal ones never quite agree."""
        return (self.amount, "amount", "epochs", "flops")

    @property
    def counts(self) -> tuple[str, ...]:
        """What a model has or gets more of: the main metric should be better with it."""
        return (*_SIZES, self.amount, self.unique, "amount", "unique", "epochs", "flops")

    @property
    def main(self) -> Metric:
        """What laws are fitted to: the column "loss"."""
        return self.metrics[MAIN]

    @property
    def higher(self) -> bool:
        """Whether more of the main metric is better."""
        return self.main.better == "higher"

    def column(self, name: str) -> str:
        """The column that a name means: `amount` and `unique` stand under their unit's name."""
        return {"amount": self.amount, "unique": self.unique}.get(name, name)

    def label(self, column: str) -> str:
        """What stands on the axis of a column."""
        named = {
            self.amount: f"training {self.amount}",
            self.unique: f"unique training {self.amount}",
        }
        column = self.column(column)
        if column in self.metrics:
            return measured(self.metrics[column])
        return named.get(column) or LABELS.get(column, column)

    def named(self, column: str, text: str) -> str:
        """ "1.2M parameters", "optim.name adamw": the label of one value of a column in words."""
        if column in self.counts:
            return f"{text} {self.label(column)}"
        return f"{self.label(column)} {text}"

    def texts(self, column: str, values: Sequence[Any]) -> list[str]:
        """Labels of distinct values of a column: counts as 1.23M where that tells them apart."""
        counts = column in self.counts and not pd.isna(pd.Series(values, dtype=object)).any()
        short = [human(value) for value in values] if counts else []
        return short if len(set(short)) == len(values) else labels(values)

    def of_main(self, what: str = "") -> str:
        """Of the main metric with its unit: "training loss (bits/byte)" of what="training"."""
        return measured(self.main, what)

    @property
    def title(self) -> str:
        """The main metric at the head of a figure."""
        return self.main.label[:1].upper() + self.main.label[1:]


def words_of(frame: pd.DataFrame) -> Words:
    """Of the runs of a table; where they have several units or objectives, of the first."""
    units, objectives = values_in(frame, "unit"), values_in(frame, "objective")
    metrics = metrics_of(objectives[0] if objectives else None)
    return Words(units[0], metrics) if units else Words(metrics=metrics)
