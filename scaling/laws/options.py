"""What can be asked of `fit` and `plan`, as frozen records; the flags of both commands are their
fields.

`Options` is how a law is fitted; `FitRequest` and `PlanRequest` are all that a person may type, and
`read` makes one of what was typed. Called by `scaling/commands/laws.py` and by all that fit.
"""

import collections.abc
import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from scaling.errors import UserError
from scaling.laws.expressions import numbers

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Options:
    """How a law is fitted to a table."""

    # Of a law of one column, the table's column; of others, law's column -> table's column where
    # the names differ.
    x: str | Mapping[str, str] = "params"
    loss: str | None = None  # column that is predicted; None: the law's own ("loss" for most)
    # Sum over rows of "huber", "squares" (r^2 / 2), "absolute" (|r|), or "asymmetric" (Huber tilted
    # to a quantile of the residuals).
    objective: str = "huber"
    delta: float = 1e-3  # of the Huber loss, in units of the residual (relative in log space)
    tilt: float = 0.5  # the quantile that "asymmetric" aims at
    space: str = "log"  # or "linear": residuals of log loss, or of loss
    sd: str | None = None  # column with the standard deviation (not the weight) of each row's loss
    # Parameters (or constants of the law) that are given rather than fitted.
    fixed: Mapping[str, float] = field(default_factory=dict)
    bootstrap: int = 1000  # resamples; 0: no intervals
    # Of the intervals: cases or residual (bootstrap; auto chooses), delta, or profile (whose
    # predictions are those of delta).
    method: str = "auto"
    # Whether intervals hold doubt about the form, learned from backtests within the table and from
    # published tables; without it they are those of a bootstrap alone.
    forecast: bool = True
    cluster: str | None = None  # column whose equal values mark rows of one run
    level: float = 0.9  # of the intervals
    seed: int = 0  # of the resampling


@dataclass(frozen=True)
class FitRequest(Options):
    """A fit of a table in a file, or the score of a preregistered prediction on one."""

    table: str = ""  # a file, or
    workdir: str = ""  # a folder of our runs with its table
    law: str = "power_floor"
    decimal: str = ""  # "." or ",": what 1,400 means where the table does not say
    columns: str = ""  # these three: see `table.shape_table`
    derive: str = ""
    where: str = ""
    by: str | None = None  # column; one fit for each of its values
    holdout_by: str | None = None  # column whose largest value is predicted from the rest
    # Rolling origin: a fit below each size predicts every run above it; by `holdout_by`, or flops.
    backtest: bool = False
    # Two steps: a law that reads the loss which the first predicts (accuracy, error, loss_to_loss).
    then: str = ""
    compare: str = ""  # "chinchilla,kaplan": laws compared with this one
    # One prediction of this law and those of `compare`, or of all that --law=auto compares, weighed
    # by their backtests.
    average: bool = False
    sensitivity: bool = False  # a table of the answer under other choices
    # A table of compute-optimal exponents by envelope, isoFLOP and parametric fit.
    approaches: bool = False
    # A planned run, column -> value; writes OUT/prediction.json.
    preregister: Mapping[str, float] = field(default_factory=dict)
    score: str = ""  # a prediction.json; nothing is fitted
    out: str = ""  # folder of fit.json and the tables; empty: nothing is written


@dataclass(frozen=True)
class PlanRequest:
    """The compute-optimal run of a budget, from a fit.json."""

    fit: str  # path of fit.json (or its folder)
    flops: float | None = None  # training budget of the planned run, or
    joules: float | None = None  # that in energy, at
    flops_per_joule: float | None = None  # None: as the runs of the fit, where these say it
    inference_units: float = 0.0  # tokens, images, ... read or made after training; 0: none
    unique_units: float | None = None  # distinct ones, for a data-constrained law
    level: float | None = None  # of the intervals; None: the fit's
    design: bool = False  # propose runs that shrink the interval at `flops` most
    budget: float | None = None  # FLOPs for those runs; required by design
    rungs: int = 4  # sizes of the ladder
    # "module:NAME" or "path.py:NAME" of a recipe that makes the models; empty: the rule of the
    # base's family.
    recipe: str = ""
    base: str = ""  # module or path of the config that the ladder changes; empty: the recipe's
    # Of the data, what a model is built for, by name, where neither base nor data say it.
    sizes: Mapping[str, float] = field(default_factory=dict)
    out: str = ""  # folder of plan.json, ladder.py and design.csv; empty: nothing is written


def hints(record: type) -> dict[str, Any]:
    """Field -> the type of its flag: that of its values but None; text for mappings."""
    return {
        name: str if _is_mapping(hint) else (typing.get_args(hint) or (hint,))[0]
        for name, hint in typing.get_type_hints(record).items()
    }


def _is_mapping(hint: Any) -> bool:
    return typing.get_origin(hint) is collections.abc.Mapping


def read(record: type[_Record], typed: Mapping[str, Any]) -> _Record:
    """The record of what was typed, by field; "a=1,b=2" for a mapping of numbers.

    Raises UserError that names the flag of a field that is not given, or of a number that is none.
    """
    values = {}
    types = typing.get_type_hints(record)
    for one in dataclasses.fields(typing.cast(Any, record)):
        defaults = one.default, one.default_factory
        value = typed.get(one.name)
        if value is None and all(d is dataclasses.MISSING for d in defaults):
            raise UserError(f"give --{one.name}")
        if one.name in typed:
            if _is_mapping(types[one.name]) and isinstance(value, str):
                value = numbers(value, f"--{one.name}")
            values[one.name] = value
    return record(**values)
