"""What the rows of a table are counted in, and which way a metric goes.

Our own tables have columns `unit` and `objective`, and amounts of data under their unit's name; a
table without them counts tokens, as the papers do whose laws these are. Called by `rows.py`,
`fitting.py` and `fit_command.py`; no jax.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.config import choices
from scaling.config.contracts import Metric
from scaling.errors import UserError
from scaling.laws.law import Law
from scaling.records.conventions import MAIN, metrics_of, values_in

TOKEN = "token"  # what a table counts that says nothing
# A law's column of amounts -> that of our own tables which holds any unit's.
AMOUNTS = {"tokens": "amount", "unique_tokens": "unique"}


def unit_of(table: pd.DataFrame) -> str | None:
    """The unit in which all rows count their data, in the singular; None: they do not say, or say
    several.
    """
    found = values_in(table, "unit")
    ours = len(found) == 1 and {"amount", f"{found[0]}s"} & set(table.columns)
    return str(found[0]) if ours else None


def amounts_of(law: Law, table: pd.DataFrame) -> dict[str, str]:
    """Law's column of amounts -> the table's, where that has another name: "tokens" -> "images".

    Raises UserError for rows of several units, whose amounts do not compare.
    """
    read, unit = law.needs or law.columns, unit_of(table)
    several, found = values_in(table, "unit"), dict[str, str]()
    for column, counted in AMOUNTS.items():
        if column not in read:
            continue
        if counted in table.columns and len(several) > 1:
            raise UserError(
                f"{law.name}: the rows count {', '.join(f'{u}s' for u in several)}; choose some "
                f"with --where='unit == \"{several[0]}\"', or fit each with --by=unit"
            )
        if column in table.columns and unit in (None, TOKEN):
            continue
        offered = (column.replace("tokens", f"{unit}s"), counted)
        there = [name for name in offered if name in table.columns]
        if there:
            found[column] = there[0]
    return found


def formula_of(law: Law, names: Mapping[str, str]) -> str:
    """The law's formula with the table's names of amounts."""
    text = law.formula
    for column in AMOUNTS:
        if (name := names.get(column, column)) != column:
            text = re.sub(rf"(?<![a-z_]){column}(?![a-z_])", name, text)
    return text


def metric_of(column: str, table: pd.DataFrame) -> Metric | None:
    """What a column of metrics holds ("accuracy", "accuracy/docs"), as the objectives of the rows
    say, else all that are registered; None: nobody knows it, or they do not agree.
    """
    name = column.partition("/")[0]
    objectives = values_in(table, "objective") or ([] if name == MAIN else _registered())
    found = [metrics_of(o)[name] for o in objectives if name in metrics_of(o)]
    return found[0] if found and len({m.better for m in found}) == 1 else None


def _registered() -> list[str]:
    return list(choices.registry("objective"))


def check_falls(law: Law, column: str, source: str, table: pd.DataFrame) -> None:
    """Raises UserError for a column of which more is better: all laws of a loss fall.

    Args:
      law: that is to be fitted.
      column: that it predicts.
      source: its name in the file, where it was renamed.
      table: the rows.
    """
    metric = metric_of(source, table)
    if law.target != MAIN or metric is None or metric.better == "lower":
        return
    name = source.partition("/")[0]
    flag = f"--loss={column}" if column == source else f"--columns: {column} is {source}, and"
    renamed = "" if name == source else f"--columns='{name}={source}' "
    raise UserError(
        f"{flag}: of {name} more is better, and {law.name} falls; fit what is missing from 1, with "
        f"{renamed}--derive='error=1-{name}' --loss=error"
    )


def conventions(table: pd.DataFrame, loss: str) -> dict[str, str]:
    """What the columns of our own tables count that a law reads."""
    unit, metric = unit_of(table) or TOKEN, _main(loss, table)
    flops = "all matmuls, attention in full" if unit == TOKEN else "all matmuls and convolutions"
    counted = [metric.label, *([metric.unit.replace("/", " a ")] if metric.unit else [])]
    return {
        "params": "all parameters, embeddings included",
        f"{unit}s": f"training {unit}s, repeats counted",
        "flops": f"training FLOPs of {flops} (3 x forward)",
        MAIN: f"final in-distribution validation {', '.join(counted)}",
    }


def flops_per_joule(table: pd.DataFrame) -> float | None:
    """What a joule bought: the median of the larger half of the runs, which waste least on their
    beginnings; None where the table has not both columns.
    """
    if not {"flops", "joules"} <= {*map(str, table.columns)}:
        return None
    flops, joules = (
        pd.to_numeric(table[name], errors="coerce").to_numpy() for name in ("flops", "joules")
    )
    known = np.isfinite(flops) & np.isfinite(joules) & (flops > 0) & (joules > 0)
    if not known.any():
        return None
    flops, joules = flops[known], joules[known]
    large = flops >= np.median(flops)
    return float(np.median(flops[large] / joules[large]))


def _main(loss: str, table: pd.DataFrame) -> Metric:
    """The metric that is fitted; of a table that says no objective, that of the default one."""
    if not values_in(table, "objective") and unit_of(table) in (None, TOKEN):
        return metrics_of(choices.default("objective"))[MAIN]
    return metric_of(loss, table) or Metric(loss)
