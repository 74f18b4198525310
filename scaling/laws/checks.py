"""Whether the flags of `fit` and `plan` can be meant, before a table is read or anything compiled.

Takes what `fit_command` and `plan_command` are asked; raises UserError with one line that names the
flag. What needs the law's own facts or the table's columns is checked there once they are known
(`check_law`, `check_columns`). Called by both; no jax, no pandas.
"""

import difflib
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from scaling.errors import UserError, nearest
from scaling.laws.law import Law
from scaling.laws.options import FitRequest, Options, PlanRequest

METHODS = ("auto", "cases", "residual", "delta", "profile")
OBJECTIVES = ("huber", "squares", "absolute", "asymmetric")
SPACES = ("log", "linear")
LOSSES = ("loss", "other_loss")  # columns that a second law reads
FEWEST = 10  # resamples that an interval is read from
MOST = 1_000_000


def known_law(name: str, flag: str = "") -> Law:
    """The law of that name. Raises UserError with all names, the nearest first."""
    from scaling.laws import LAWS  # the package's `__init__` comes first

    if name not in LAWS:
        near = difflib.get_close_matches(name, LAWS, n=len(LAWS), cutoff=0)
        told = f"{flag}: " if flag else ""
        raise UserError(f"{told}no law {name}; the laws, nearest first: {', '.join(near)}")
    return LAWS[name]


def choice(flag: str, value: str, allowed: Sequence[str]) -> None:
    """Raises UserError unless the value is one of those."""
    if value not in allowed:
        raise UserError(
            f"{flag}={value} is not offered; choose from {', '.join(filter(None, allowed))}"
        )


def positive(flag: str, value: float | None, *, zero: bool = False) -> None:
    """Raises UserError unless the value is positive and finite (or zero, where that is a value)."""
    if value is None or (0 < value < math.inf) or (zero and value == 0):
        return
    raise UserError(f"{flag}={value:g} must be {'zero or ' if zero else ''}positive and finite")


def level(value: float | None) -> None:
    """Raises UserError unless --level lies between 0 and 1."""
    if value is not None and not 0 < value < 1:
        way = f"; {value:g} % is --level={value / 100:g}" if 1 < value < 100 else ""
        raise UserError(f"--level={value:g} must lie between 0 and 1{way}")


def folder(flag: str, out: str) -> None:
    """Raises UserError when a folder cannot be made there, or not written to."""
    if not out:
        return
    path = pathlib.Path(out)
    for part in (path, *path.parents):
        try:
            there = part.exists()
        except OSError as e:
            raise UserError(f"{flag}={out} cannot be a folder: {e.strerror}") from None
        if there:
            if not part.is_dir():
                raise UserError(f"{flag}={out}: {part} is a file; name a folder")
            if not os.access(part, os.W_OK | os.X_OK):
                raise UserError(f"{flag}={out}: {part} cannot be written to; name another folder")
            return


def check_fit(asked: FitRequest) -> None:
    """What `fit` can be asked, whatever the table. Raises UserError that names the flag."""
    a, usual = asked, Options()
    choice("--objective", a.objective, OBJECTIVES)
    choice("--space", a.space, SPACES)
    choice("--method", a.method, METHODS)
    choice("--decimal", a.decimal, ("", ".", ","))
    positive("--delta", a.delta)
    if not 0 < a.tilt < 1:
        raise UserError(f"--tilt={a.tilt:g} must lie between 0 and 1")
    if a.objective in ("squares", "absolute") and a.delta != usual.delta:
        raise UserError(f"--delta={a.delta:g}: --objective={a.objective} has none; leave one out")
    if a.objective != "asymmetric" and a.tilt != usual.tilt:
        raise UserError(f"--tilt={a.tilt:g} goes with --objective=asymmetric")
    if a.bootstrap and not FEWEST <= a.bootstrap <= MOST:
        raise UserError(
            f"--bootstrap={a.bootstrap} must be 0 (no intervals) or lie between {FEWEST} and "
            f"{MOST:,}"
        )
    if not a.bootstrap and not a.score:
        for flag, given in (
            ("method", a.method != "auto"),
            ("preregister", bool(a.preregister)),
            ("backtest", a.backtest),
            ("law=auto", a.law == "auto"),
            ("average", a.average),
            ("then", bool(a.then)),
        ):
            if given:
                raise UserError(f"--{flag} needs intervals; leave --bootstrap=0 out")
    if a.average and a.law != "auto" and not a.compare:
        raise UserError("--average is of several laws: give others with --compare, or --law=auto")
    if a.law == "auto" and a.by is not None:
        raise UserError("--law=auto chooses one law for a table: give --law with --by")
    if a.cluster is not None and a.method not in ("auto", "cases"):
        raise UserError(
            f"--cluster resamples whole clusters, which --method={a.method} does not; use "
            "--method=cases"
        )
    level(a.level)
    if not 0 <= a.seed < 2**32:
        raise UserError(f"--seed={a.seed} must lie between 0 and {2**32 - 1}")
    if a.preregister and not a.out:
        raise UserError("--preregister writes OUT/prediction.json: give --out")
    if a.preregister and a.score:
        raise UserError("--score judges a prediction, --preregister makes one; leave one out")
    for name, value in a.preregister.items():
        positive(f"--preregister: {name}", value)
    folder("--out", a.out)


def check_law(law: Law, asked: FitRequest) -> None:
    """What `fit` can be asked of this law. Raises UserError that names the flag."""
    x, fixed = asked.x, asked.fixed
    needed = (str(x),) if law.columns == ("x",) else law.needs or law.columns
    if x != Options().x and law.columns != ("x",):
        raise UserError(
            f"--x={x}: {law.name} reads {', '.join(needed)}, by these names; rename with --columns"
        )
    constants = law.constants or {}
    for name, value in fixed.items():
        if name not in (*law.names, *constants):
            known = nearest(name, [*law.names, *constants])
            raise UserError(f"--fixed: {law.name} has no parameter {name}{known}")
        if name in law.names and not law[name].low <= value <= law[name].high:
            raise UserError(
                f"--fixed: {name}={value:g} must lie between {law[name].low:g} and "
                f"{law[name].high:g}"
            )
    if set(law.names) <= set(fixed):
        raise UserError(f"--fixed gives all parameters of {law.name}: nothing is left to fit")


def loss_read(law: Law) -> str:
    """The column of losses that a second law reads. Raises UserError for a law that reads more."""
    if len(law.columns) != 1 or law.columns[0] not in LOSSES:
        raise UserError(
            f"--then={law.name} reads {', '.join(law.columns)}; the second law reads a loss alone, "
            "as accuracy, error and loss_to_loss do"
        )
    return law.columns[0]


def check_planned(law: Law, planned: Mapping[str, float], names: Mapping[str, str]) -> None:
    """Whether a planned run has just the columns that the law reads: `names` is law's column ->
    table's, where they differ. Raises UserError that names the flag.
    """
    needed = [names.get(name, name) for name in law.needs or law.columns]
    if planned and set(planned) != set(needed):
        raise UserError(
            f"--preregister gives {', '.join(planned)}; {law.name} predicts from "
            f"{', '.join(needed)}"
        )


def check_columns(given: Mapping[str, str | None], known: Iterable[str]) -> None:
    """Whether the table has the columns that flags name. Raises UserError that names the flag."""
    known = [str(name) for name in known]
    for flag, name in given.items():
        if name is not None and name not in known:
            raise UserError(f"{flag}: the table has no column {name}{nearest(name, known)}")


def check_plan(asked: PlanRequest) -> None:
    """What `plan` can be asked, whatever the fit. Raises UserError that names the flag."""
    a = asked
    positive("--flops", a.flops)
    positive("--joules", a.joules)
    positive("--flops_per_joule", a.flops_per_joule)
    if (a.flops is None) == (a.joules is None):
        raise UserError("give --flops, the training budget, or --joules, the same in energy")
    if a.joules is None and a.flops_per_joule is not None:
        raise UserError("--flops_per_joule goes with --joules")
    positive("--inference_units", a.inference_units, zero=True)
    positive("--unique_units", a.unique_units)
    if a.unique_units is not None and a.unique_units < 1:
        raise UserError(f"--unique_units={a.unique_units:g}: give at least one")
    positive("--budget", a.budget)
    level(a.level)
    if a.design and a.budget is None:
        raise UserError("--design needs --budget, the FLOPs for all new runs together")
    if a.budget is not None and not a.design:
        raise UserError("--budget is what --design may spend; give both, or neither")
    if not 1 <= a.rungs <= 100:
        raise UserError(f"--rungs={a.rungs}: a ladder has between 1 and 100 rungs")
    for name, value in a.sizes.items():
        if not 1 <= value <= 1e9 or value != int(value):
            raise UserError(f"--sizes: {name}={value:g} must be a whole number of at least 1")
    folder("--out", a.out)
