"""What a table of runs lets one say: a law with its interval, its test on the largest, or why not.

Takes the table, an axis and a law; gives a `Finding` with sentences. Called by `build.py`. A law is
fitted only where the points are more than its parameters, so that it could have failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from scaling import laws
from scaling.config.sweep import DELTA, Study
from scaling.errors import UserError, nearest
from scaling.laws import LAWS, Backtest, Fit, Holdout
from scaling.report.axes import curves_in, done, is_rate, means
from scaling.report.words import Words, words_of
from scaling.units import human

SIZES = 4  # more than parameters, for a backtest of several cuts
CUTS = 4  # of it


@dataclass(frozen=True)
class Finding:
    """The law of one curve."""

    x: str
    name: str | None  # of the curve, when there are several
    fit: Fit | None  # to all points
    holdout: Holdout | None  # without the largest, and scored on it
    notes: tuple[str, ...]  # what a reader must know, first of all why nothing was fitted
    words: Words = field(default_factory=Words)
    backtest: Backtest | None = None  # larger runs predicted from smaller ones, where sizes allow

    @property
    def drawable(self) -> bool:
        """Whether the law is a line over `x`."""
        return self.fit is not None and len(LAWS[self.fit.law].columns) == 1

    @property
    def law(self) -> str | None:
        """The fitted law in one sentence, its exponents with their intervals."""
        if self.fit is None:
            return None
        law = LAWS[self.fit.law]
        names = [*law.exponents, *([law.floor] if law.floor else [])]
        values = [
            f"{name} = {self.fit.params[name]:.3g} ({self.fit.level:.0%} interval "
            f"{self.fit.intervals[name][0]:.3g} to {self.fit.intervals[name][1]:.3g})"
            for name in names
            if name in self.fit.intervals
        ]
        ranges = [
            f"{self.words.label(self.fit.x.get(column, column))} from {human(low)} to {human(high)}"
            for column, (low, high) in self.fit.ranges.items()
        ]
        return (
            f"Validation {self.words.main.label} follows {self.fit.formula} over "
            f"{' and '.join(ranges)}: {', '.join(values)}."
        )

    @property
    def truth(self) -> str | None:
        """How far the law is from what is known of the data, in a sentence; None: nothing is."""
        if self.fit is None or not self.fit.known:
            return None
        return f"In truth {self.fit.off()} ({self.fit.known.source})."


def find(
    frame: pd.DataFrame,
    x: str,
    law: str,
    test: bool = True,
    name: str | None = None,
    delta: float = DELTA,
    rolling: bool = False,
) -> Finding:
    """Fits `law` to the runs that are done, and (with `test`) scores it on the largest `x`; with
    `rolling` also below smaller ones, where there are sizes enough. `delta` as in `Study`.

    Raises UserError for an unknown law only; data that do not allow a fit give a note.
    """
    if law not in LAWS:
        raise UserError(f"law={law} is unknown{nearest(law, LAWS)}")
    rows, words, notes = done(frame, x), words_of(frame), _not_better(frame, x)
    if words.higher:
        return Finding(x, name, None, None, (f"No law is fitted: {_rises(words)}.", *notes), words)
    free, needed = len(LAWS[law].parameters), _needed(law, test)
    over = _over(law, x, words)
    if (points := _points(rows, over)) < needed:
        why = (
            f"No law is fitted: {points} value{'s' if points != 1 else ''} of "
            f"{_labelled(over, words)} with a finished run, and {law} has {free} parameters"
        )
        why += f", so a fit that can be tested needs at least {needed}."
        return Finding(x, name, None, None, (why, *notes), words)
    columns = LAWS[law].columns
    # A law of several columns finds its own, amounts under their unit's name.
    options = laws.Options(x=x if len(columns) == 1 else {}, delta=delta)
    scored = rolled = None
    by = x
    try:
        if test:
            by = x if len(columns) == 1 or x in (*columns, words.amount) else "params"
            scored = laws.holdout(rows, law, options, by=by)
            said = scored.sentence.replace("predicted loss", f"predicted {words.main.label}")
            scored = replace(scored, sentence=said)
        fitted = laws.fit(rows, law, options)
        fitted.predict(rows)  # refused when the fit did not converge
    except UserError as error:
        return Finding(x, name, None, None, (f"No law is fitted: {error}", *notes), words)
    if rolling and rows[by].nunique() >= free + SIZES:
        try:
            rolled = laws.backtest(rows, law, options, by=by, cuts=CUTS)
        except UserError:  # why no cut can be fitted was said of the whole, or is of no interest
            rolled = None
    return Finding(x, name, fitted, scored, (*fitted.flags, *notes), words, rolled)


def _rises(words: Words) -> str:
    return f"of {words.main.label} more is better, and all laws here fall"


def _over(law: str, x: str, words: Words) -> list[str]:
    """The columns that a law runs over: x, or of a law of several its own, amounts under the name
    of their unit.
    """
    columns = LAWS[law].columns
    if len(columns) == 1:
        return [x]
    return [words.amount if column == "tokens" else column for column in columns]


def fitted_apart(rows: pd.DataFrame, law: str, x: str, by: Sequence[str]) -> tuple[str, ...]:
    """The fields of `by` at each of whose values the law is a fit of its own: not those that a law
    of several columns knows by its columns, as it does the width by the parameters.
    """
    over = [c for c in _over(law, x, words_of(rows)) if c in rows] if law in LAWS else []
    if len(over) < 2:
        return tuple(by)
    places = rows.groupby(over, dropna=False)
    return tuple(field for field in by if (places[field].nunique(dropna=False) > 1).any())


def _points(rows: pd.DataFrame, over: list[str]) -> int:
    """Different values of the columns, together; of those that there are."""
    return len(rows[[column for column in over if column in rows]].drop_duplicates())


def _labelled(over: list[str], words: Words) -> str:
    return " and ".join(words.label(column) for column in over)


def _needed(law: str, test: bool) -> int:
    """Values of x that a law is fitted to, one of them held out with `test`."""
    return len(LAWS[law].parameters) + (2 if test else 1)


def foreseen(planned: pd.DataFrame, study: Study) -> str:
    """A sentence for the dry run where curves of a study will have too few points for its law.

    Args:
      planned: a row a run, with what is known of it before it is trained; where the study's x is
        not among its columns there is nothing to foresee.
      study: whose x, law, group and holdout count.
    """
    words = words_of(planned)
    x = words.column(study.x)
    by = [c for column in study.groups if (c := words.column(column)) in planned]
    if x not in planned or study.law not in LAWS or is_rate(x):  # a minimum needs no law
        return ""
    if words.higher:
        return f"no law will be fitted: {_rises(words)}"
    over = _over(study.law, x, words)
    if not {*over} <= {*planned}:
        return ""
    by = list(fitted_apart(planned, study.law, x, by))
    counts = {curve.name: _points(curve.rows, over) for curve in curves_in(planned, by)}
    needed = _needed(study.law, study.holdout)
    few = {name: count for name, count in counts.items() if count < needed}
    if not few:
        return ""
    curves = f", at {'; '.join(filter(None, few))}" if by else ""
    test = " and tested on the largest" if study.holdout else ""
    return (
        f"no law will be fitted{curves}: {study.law} has {len(LAWS[study.law].parameters)} "
        f"parameters, and to be fitted{test} it needs {needed} values of "
        f"{_labelled(over, words)}; the study has {min(few.values())}"
    )


def _not_better(frame: pd.DataFrame, x: str) -> tuple[str, ...]:
    words = words_of(frame)
    if x not in (*words.counts, "width", "depth"):
        return ()
    mean = means(done(frame, x), x)
    steps = zip(mean.to_dict("records"), mean.to_dict("records")[1:], strict=False)
    sign, goes = (-1, "rise") if words.higher else (1, "fall")
    return tuple(
        f"The mean {words.main.label} does not {goes} from {human(a[x])} to {human(b[x])} "
        f"{words.label(x)}: {a['mean']:.4f} to {b['mean']:.4f}."
        for a, b in steps
        if sign * (b["mean"] - a["mean"]) >= 0
    )
