"""The numbers behind the page's own plot: every run, its columns, its curve and what is its own.

Takes the table of runs, their curves and their configs; gives what `explore.js` draws, as JSON for
the inside of the page. Called by `page.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from scaling.records import strict_json
from scaling.report.axes import done, groups_in, varies
from scaling.report.words import words_of
from scaling.units import labels

# What all curves together may hold, so that the page of a thousand runs still opens on a phone.
POINTS, MOST, LEAST = 60_000, 160, 12
GROUPS = 12  # values of a column by which runs are coloured


def explored(
    frame: pd.DataFrame,
    x: str,
    by: Sequence[str],
    curves: Mapping[str, pd.DataFrame],
    varying: Iterable[str],
    configs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Of the runs that have a loss: columns to lay on axes, columns to tell apart by, curves.

    Args:
      frame: the table, a row a run.
      x: column that is the horizontal axis at first.
      by: columns that tell curves apart; by the first of them runs are coloured at first.
      curves: run -> `scaling.records.tables.curves`.
      varying: fields of the configs that differ.
      configs: run -> dotted field -> value.
    """
    rows, words = done(frame).reset_index(drop=True), words_of(frame)
    fields = [name for name in varying if name not in frame]
    axes = _axes(rows, x)
    groups = _groups(rows)
    each = max(LEAST, min(MOST, POINTS // max(1, len(rows))))
    return {
        "x": x,
        "y": "loss",
        "axes": [{"name": c, "label": words.label(c)} for c in axes],
        "groups": groups,
        "group": next((i for i, one in enumerate(groups) if one["name"] in by[:1]), ""),
        "amount": words.label(words.amount),
        "loss": words.of_main(),
        "runs": [
            {
                "name": row["name"],
                "values": [_number(row[c]) for c in axes],
                "fields": {field: str(configs.get(row["name"], {}).get(field)) for field in fields},
                "curve": _curve(curves.get(row["name"]), words.amount, each),
            }
            for row in rows.to_dict("records")
        ],
    }


def embedded_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end one."""
    return Markup(strict_json.encode(value).decode().replace("<", "\\u003c"))


def _axes(rows: pd.DataFrame, x: str) -> list[str]:
    """Numbers that differ between runs: the axis, metrics, sizes, and the rest as they come."""
    words = words_of(rows)
    first = [x, "loss", *words.metrics, "train_loss", "params", words.amount, "flops"]
    rest = [c for c in rows if c not in ("amount", "unique")]
    known = [c for c in dict.fromkeys([*first, *rest]) if c in rows]
    return [c for c in known if c in (x, "loss") or varies(rows, c)]


def _groups(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Columns of few values: name, labels of the values in order, and the place of every run."""
    words, found = words_of(rows), []
    fields = [c for c in rows if "." in c and "/" not in c]
    for column in dict.fromkeys(["objective", "unit", "width", "depth", "seed", *fields]):
        if column not in rows:
            continue
        places = groups_in(rows[column])
        if not 2 <= places.nunique() <= GROUPS:
            continue
        text = dict(zip(places, labels(rows[column]), strict=True))
        label, names = words.label(column), [text[k] for k in sorted(text)]
        found.append({"name": column, "label": label, "names": names, "of": places.tolist()})
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and value == value else None


def _curve(curve: pd.DataFrame | None, amount: str, each: int) -> dict[str, Any]:
    """Amounts and losses of training, thinned to `each` evenly by logarithm, and of validation."""
    if curve is None or "loss" not in curve or amount not in curve:
        return {}
    kept = curve[(curve["step"] > 0) & np.isfinite(curve["loss"])]
    train, val = (kept[kept["split"] == split] for split in ("train", "val"))
    if len(train) > each:
        places = np.geomspace(1, len(train), each).round().astype(int) - 1
        train = train.iloc[np.unique(places)]
    return {
        split: [_rounded(part[amount]), _rounded(part["loss"])]
        for split, part in (("train", train), ("val", val))
    }


def _rounded(column: pd.Series) -> Sequence[float]:
    return [float(f"{value:.5g}") for value in column]
