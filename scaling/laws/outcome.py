"""What the commands `fit` and `plan` give back, and how they show tables and write files."""

import pathlib
from dataclasses import dataclass, field

import pandas as pd

from scaling.errors import UserError
from scaling.laws.backtests import Backtest
from scaling.laws.design import Design
from scaling.laws.extrapolation import Holdout
from scaling.laws.planning import Plan
from scaling.laws.result import Fit
from scaling.laws.stacking import Stack


@dataclass(frozen=True)
class Outcome:
    """What a command made: text for the terminal, and the pieces that figures are drawn from."""

    text: str
    fits: dict[str, Fit] = field(default_factory=dict)  # by group's label; "" without groups
    seconds: dict[str, Fit] = field(default_factory=dict)  # of laws that read the loss of these
    averages: dict[str, Stack] = field(default_factory=dict)  # of several laws
    folders: dict[str, str] = field(default_factory=dict)  # the sub-folder of each
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # the rows of each group
    holdouts: dict[str, Holdout] = field(default_factory=dict)
    backtests: dict[str, Backtest] = field(default_factory=dict)
    approaches: dict[str, pd.DataFrame] = field(default_factory=dict)
    comparisons: dict[str, pd.DataFrame] = field(default_factory=dict)
    choices: dict[str, pd.DataFrame] = field(default_factory=dict)  # laws that were chosen from
    sensitivities: dict[str, pd.DataFrame] = field(default_factory=dict)
    plan: Plan | None = None
    design: Design | None = None
    files: tuple[pathlib.Path, ...] = ()


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a file, whole or not at all; gives its path. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text)
        partial.replace(path)
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from None
    return path


def show(table: pd.DataFrame) -> str:
    """A table for the terminal."""
    with pd.option_context("display.width", 200, "display.max_columns", 30,
                           "display.max_colwidth", 80):  # fmt: skip
        return table.to_string(index=False, float_format=lambda v: f"{v:.5g}", na_rep="-")
