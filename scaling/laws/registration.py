"""A prediction written down before the big run, and scored after it.

`preregister` gives a JSON text that carries its own hash: a later change of any digit shows.
`score` checks the hash and compares with what was measured. Called by `fit_command.py`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.extrapolation import describe
from scaling.laws.result import Fit
from scaling.laws.rows import numbers
from scaling.laws.stacking import Stack


def table_hash(table: pd.DataFrame) -> str:
    """SHA-256 of a table's cells, column names and order."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def _digest(values: Mapping[str, Any]) -> str:
    content = {k: v for k, v in values.items() if k != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def preregister(
    fitted: Fit | Stack, at: Mapping[str, float], *, table: pd.DataFrame, when: str
) -> str:
    """The prediction at `at` (table's columns -> value) as JSON with its hash.

    Args:
      fitted: with draws.
      at: the planned run.
      table: what was fitted; its hash is kept.
      when: time of writing, ISO 8601.
    """
    prediction = fitted.predict({k: np.array([v]) for k, v in at.items()})
    law: dict[str, Any]
    if isinstance(fitted, Stack):
        fits = fitted.fits
        law = {"laws": dict(zip([f.law for f in fits], fitted.weights, strict=True))}
    else:
        fits, law = (fitted,), {"law": fitted.law, "params": fitted.params}
    first = fits[0]
    values: dict[str, Any] = {
        "at": {k: float(v) for k, v in at.items()},
        "predicted": float(prediction.mean[0]),
        "low": float(prediction.low[0]),
        "high": float(prediction.high[0]),
        "level": prediction.level,
        **law,
        "loss": first.loss,
        "n": first.n,
        "status": first.status,
        "flags": [flag for f in fits for flag in f.flags],
        "table_sha256": table_hash(table),
        "when": when,
    }
    return json.dumps(values | {"sha256": _digest(values)}, indent=1)


@dataclass(frozen=True)
class Score:
    """How a preregistered prediction did."""

    predicted: float
    low: float
    high: float
    actual: float
    within: bool
    sentence: str


def score(registered: str, table: pd.DataFrame) -> Score:
    """Compare a preregistered prediction with the runs of a table at the registered point.

    Raises UserError when the text was changed since, or no run of the table is at that point.
    """
    try:
        values = json.loads(registered)
        untouched = _digest(values) == values["sha256"]
    except (ValueError, KeyError, TypeError):
        raise UserError("this is no prediction written by `launch.py fit --preregister`") from None
    if not untouched:
        raise UserError(
            "the prediction does not match its own hash: it was changed after it was written"
        )
    here = np.ones(len(table), bool)
    for column, value in values["at"].items():
        here &= np.abs(numbers(table, column) / value - 1) < 0.02
    measured = numbers(table, values["loss"])[here]
    measured = measured[np.isfinite(measured)]
    if not len(measured):
        point = ", ".join(f"{k} = {v:g}" for k, v in values["at"].items())
        raise UserError(f"the table has no finished run at {point} (within 2 %)")
    actual = float(measured.mean())
    within = values["low"] <= actual <= values["high"]
    sentence = f"Predicted on {values['when']} from {values['n']} runs: " + describe(
        values["loss"], values["predicted"], values["low"], values["high"], values["level"], actual
    )
    return Score(values["predicted"], values["low"], values["high"], actual, within, sentence)
