"""Whether the flags of `fit` and `plan` can be meant, before a table is read or anything compiled.

Takes the arguments of `fit_command` and `plan_command`; raises UserError with one line that names
the flag. What needs the law's own facts or the table's columns is checked there once they are
known (`check_law`, `check_columns`). Called by `command.py`; no jax, no pandas.
"""

import difflib
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from scaling.errors import UserError, nearest
from scaling.laws.expressions import assignments
from scaling.laws.law import Law

METHODS = ("auto", "cases", "residual", "delta", "profile")
OBJECTIVES = ("huber", "squares", "absolute", "asymmetric")
SPACES = ("log", "linear")
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


def numbers(text: str, flag: str) -> dict[str, float]:
    """'a=1,b=2e3' as floats. Raises UserError that names the flag for what is no finite number."""
    out = {}
    for name, value in assignments(text, flag).items():
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = math.nan
        if not math.isfinite(out[name]):
            raise UserError(f'{flag}: {name}="{value}" is no finite number')
    return out


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


def check_fit(
    *,
    objective: str,
    delta: float,
    tilt: float,
    space: str,
    bootstrap: int,
    method: str,
    cluster: str | None,
    level_: float,
    seed: int,
    preregister: str,
    score: str,
    out: str,
    defaults: Mapping[str, object],
) -> None:
    """What `fit` can be asked, whatever the table. `defaults`: of the flags, by which one sees
    those that were given. Raises UserError that names the flag.
    """
    choice("--objective", objective, OBJECTIVES)
    choice("--space", space, SPACES)
    choice("--method", method, METHODS)
    positive("--delta", delta)
    if not 0 < tilt < 1:
        raise UserError(f"--tilt={tilt:g} must lie between 0 and 1")
    if objective in ("squares", "absolute") and delta != defaults["delta"]:
        raise UserError(f"--delta={delta:g}: --objective={objective} has none; leave one out")
    if objective != "asymmetric" and tilt != defaults["tilt"]:
        raise UserError(f"--tilt={tilt:g} goes with --objective=asymmetric")
    if bootstrap and not FEWEST <= bootstrap <= MOST:
        raise UserError(
            f"--bootstrap={bootstrap} must be 0 (no intervals) or lie between {FEWEST} and {MOST:,}"
        )
    if not bootstrap:
        for flag, given in (("--method", method != "auto"), ("--preregister", bool(preregister))):
            if given and not score:
                raise UserError(f"{flag} needs intervals; leave --bootstrap=0 out")
    if cluster is not None and method not in ("auto", "cases"):
        raise UserError(
            f"--cluster resamples whole clusters, which --method={method} does not; use "
            "--method=cases"
        )
    level(level_)
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed={seed} must lie between 0 and {2**32 - 1}")
    if preregister and not out:
        raise UserError("--preregister writes OUT/prediction.json: give --out")
    if preregister and score:
        raise UserError("--score judges a prediction, --preregister makes one; leave one out")
    for name, value in numbers(preregister, "--preregister").items():
        positive(f"--preregister: {name}", value)
    folder("--out", out)


def check_law(
    law: Law, fixed: Mapping[str, float], x: str, default_x: str, planned: Mapping[str, float]
) -> None:
    """What `fit` can be asked of this law. Raises UserError that names the flag."""
    needed = (x,) if law.columns == ("x",) else law.needs or law.columns
    if x != default_x and law.columns != ("x",):
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
    if planned and set(planned) != set(needed):
        raise UserError(
            f"--preregister gives {', '.join(planned)}; {law.name} predicts from "
            f"{', '.join(needed)}"
        )
    if set(law.names) <= set(fixed):
        raise UserError(f"--fixed gives all parameters of {law.name}: nothing is left to fit")


def check_columns(given: Mapping[str, str | None], known: Iterable[str]) -> None:
    """Whether the table has the columns that flags name. Raises UserError that names the flag."""
    known = [str(name) for name in known]
    for flag, name in given.items():
        if name is not None and name not in known:
            raise UserError(f"{flag}: the table has no column {name}{nearest(name, known)}")


def check_plan(
    *,
    flops: float,
    inference_tokens: float,
    unique_tokens: float | None,
    level_: float | None,
    design: bool,
    budget: float | None,
    rungs: int,
    vocab: int | None,
    out: str,
) -> None:
    """What `plan` can be asked, whatever the fit. Raises UserError that names the flag."""
    positive("--flops", flops)
    positive("--inference_tokens", inference_tokens, zero=True)
    positive("--unique_tokens", unique_tokens)
    if unique_tokens is not None and unique_tokens < 1:
        raise UserError(f"--unique_tokens={unique_tokens:g}: give at least one token")
    positive("--budget", budget)
    level(level_)
    if design and budget is None:
        raise UserError("--design needs --budget, the FLOPs for all new runs together")
    if budget is not None and not design:
        raise UserError("--budget is what --design may spend; give both, or neither")
    if not 1 <= rungs <= 100:
        raise UserError(f"--rungs={rungs}: a ladder has between 1 and 100 rungs")
    if vocab is not None and not 2 <= vocab <= 10_000_000:
        raise UserError(f"--vocab={vocab} must lie between 2 and 10,000,000")
    folder("--out", out)
