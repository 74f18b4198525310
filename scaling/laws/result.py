"""What a fit is once it is made: numbers, intervals, and sentences about what they do not know.

`Fit` is frozen and goes to JSON and back whole, with its bootstrap draws, so that a prediction or a
plan made later from `fit.json` has the same intervals as one made at once.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scaling.errors import UserError, nearest
from scaling.laws.law import GROWING, Law
from scaling.laws.outcomes import DRAWS, Noise, Prediction, interval, mixed, with_noise
from scaling.laws.truth import Known

if TYPE_CHECKING:
    from scaling.laws.forecast import Forecast
    from scaling.laws.problem import Problem


@dataclass(frozen=True)
class Fit:
    """A fitted law. Parameters are on their natural scale."""

    law: str
    formula: str
    params: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    level: float  # of the intervals
    method: str  # that made them
    errors: dict[str, float]  # standard deviations of the draws
    objective: float  # at the minimum: the sum over rows, not the mean
    loss_function: str  # what was summed
    space: str
    delta: float
    n: int  # rows used
    dropped: int  # rows left out
    status: str  # interior, boundary, unidentified, not converged
    flags: tuple[str, ...]  # sentences that a reader must see
    unidentified: tuple[str, ...]  # parameters that the data do not determine
    x: dict[str, str]  # column of the law -> column of the table
    loss: str  # column of the table
    ranges: dict[str, tuple[float, float]]  # least and largest value of each column fitted
    conventions: dict[str, str]  # units and counting, as far as they are known
    fixed: dict[str, float]  # parameters and constants that were given, not fitted
    noise: Noise
    starts: int  # starting points whose objective was compared
    polished: int  # of those, minimised to the end
    reached: int  # of those, ended within 1e-6 of the best
    condition: float  # condition number of the scaled Hessian
    gradient: float  # largest scaled gradient entry, relative to the objective
    unit: str | None = None  # what the table counts its data in; None: it does not say
    flops_per_joule: float | None = None  # of its larger runs; None: it does not say
    known: Known = field(default_factory=Known)  # what theory says of the parameters
    tied: bool = False  # the units of data of all rows follow from their parameters
    free: tuple[str, ...] = ()  # names of the columns of `samples`
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), compare=False, repr=False)
    forecast: "Forecast | None" = field(default=None, compare=False, repr=False)

    def _problem(self) -> "Problem":
        from scaling.laws.problem import Problem  # brings jax

        nothing = np.zeros(0)
        return Problem(self._law(), self.free, self.fixed, {}, nothing, nothing, self.space)

    def _law(self) -> Law:
        from scaling.laws import LAWS  # the registry imports this module

        return LAWS[self.law]

    def columns_of(self, at: Any) -> dict[str, np.ndarray]:
        """Columns of the law from values of x (a law of one column) or a mapping or table, by the
        table's names or the law's own.
        """
        law, raw = self._law(), self.raw_of(at)
        return law.prepare(raw) if law.prepare else raw

    def raw_of(self, at: Any) -> dict[str, np.ndarray]:
        """Likewise, as the table has them: before the law prepares them."""
        law = self._law()
        needed = law.needs or law.columns
        if not isinstance(at, Mapping | pd.DataFrame):
            if len(needed) != 1:
                raise UserError(f"{self.law} predicts from {', '.join(needed)}: give a mapping")
            return {needed[0]: np.atleast_1d(np.asarray(at, float))}
        out = {}
        for name in needed:
            known = self.x.get(name, name)
            if known not in at and name not in at:
                raise UserError(f"predict: no column {known}{nearest(known, map(str, at))}")
            value = at[known] if known in at else at[name]
            out[name] = np.atleast_1d(np.asarray(value, float))
        rows = max(len(v) for v in out.values())
        return {k: np.broadcast_to(v, (rows, *v.shape[1:])).copy() for k, v in out.items()}

    def _forecast_of(self, kept: Mapping[str, Any]) -> "Forecast":
        from scaling.laws.forecast import Forecast  # brings jax

        return Forecast.from_values(
            kept, self._law(), self.free, self.fixed, self.space, self.params
        )

    def draws(self, at: Any) -> tuple[np.ndarray, np.ndarray]:
        """The law's value at `at` [rows] and at every draw of the parameters [draws, rows]."""
        from scaling.laws.problem import predict  # brings jax

        columns, problem = self.columns_of(at), self._problem()
        best = np.array([[self.params[n] for n in self.free]])
        drawn = self.samples if len(self.samples) else best
        both = problem.coordinates(np.concatenate([best, drawn]))
        values = predict(problem, both, columns)
        return values[0], values[1:]

    def predict(
        self, at: Any, *, level: float | None = None, kind: str = "run", seed: int = 0
    ) -> Prediction:
        """Losses at `at`: values of x, or a mapping or table of columns.

        Args:
          at: where.
          level: of the intervals; None: the fit's.
          kind: "run", the loss of one more run there, or "mean", the law's value.
          seed: of the noise draws.

        Raises UserError when the fit cannot be extrapolated.
        """
        level = self.level if level is None else level
        mean, drawn = self.outcomes(at, kind=kind, seed=seed)
        return Prediction(mean, *interval(mean, drawn, level), level, kind)

    def outcomes(
        self, at: Any, *, kind: str = "run", seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `predict` predicts [rows], and draws of it [draws, rows]; raises what it does."""
        if self.status == "not converged":
            raise UserError(f"{self.law}: the fit did not converge, so it predicts nothing")
        mean, drawn = self.draws(at)
        self._refuse_to_extrapolate(at)
        if not len(self.samples):
            raise UserError(self.why_no_draws())
        if kind == "run" and (known := self.forecast) is not None:
            raw = self.raw_of(at)
            told, sure = known.told(raw, self.columns_of(at)), known.sureness(raw)
            mean, drawn = mixed(
                known, told, sure, drawn, known.weigh(self.samples), self.noise, seed
            )
        elif kind == "run":
            drawn = np.repeat(drawn, max(1, DRAWS // len(drawn)), axis=0)
            drawn = with_noise(drawn, self.noise, self.space, seed)
        return mean, np.minimum(drawn, self._law().most)

    def holds(self, times: float = 10.0) -> str:
        """One line: what the interval of a run beyond the largest holds, and the share of each;
        empty for a fit that does not know.
        """
        if self.forecast is None or set(self.forecast.placed) != set(self.x):
            return ""
        at = self.forecast.beyond(times)
        grows = any(name in GROWING for name in at)
        try:
            there = self.predict(at)
        except UserError:
            return ""
        whole = self.forecast.mixed(self.raw_of(at), self.columns_of(at))
        parts = [("parameters", whole.parameters), ("noise", whole.noise), ("form", whole.form)]
        scale = float(self.forecast.sureness(self.raw_of(at))[0][0])
        shares = ", ".join(f"{n} {float((v / whole.variance)[0]):.0%}" for n, v in parts)
        place = ", ".join(f"{self.x[n]} {v[0]:.3g}" for n, v in at.items())
        width = 50 * float((there.high - there.low)[0] / abs(there.mean[0]))
        return (
            f"a run {f'{times:g} times beyond' if grows else 'like'} the largest ({place}): "
            f"{self.loss} {there.mean[0]:.4g} ± {width:.2g} % ({there.level:.0%}), "
            f"of its variance {shares}; errors x {scale:.2f} by "
            f"{self.forecast.tests} backtests within the table"
        )

    def why_no_draws(self) -> str:
        """What to do about a fit that has no intervals, as a clause of a message."""
        if self.noise.dof <= 0:
            return (
                f"{self.law} was fitted to no more runs than it has parameters, so that nothing "
                "says how far off it is: add runs, or give some parameters with --fixed"
            )
        return (
            f"{self.law} was fitted with --bootstrap=0 and has no intervals: run `launch.py fit` "
            "again with --bootstrap=1000"
        )

    def _refuse_to_extrapolate(self, at: Any) -> None:
        """Raises UserError beyond the rows fitted when a parameter other than the floor is free."""
        law = self._law()
        unknown = [n for n in self.unidentified if n != law.floor]
        if not unknown or law.prepare:
            return
        for name, values in self.columns_of(at).items():
            low, high = self.ranges[name]
            if (values < low * (1 - 1e-9)).any() or (values > high * (1 + 1e-9)).any():
                raise UserError(
                    f"{self.law} is not extrapolated to {self.x.get(name, name)} = "
                    f"{values.max():.3g}: the data do not identify {', '.join(unknown)} "
                    f"({'; '.join(self.flags)})"
                )

    def to_json(self) -> str:
        """All of it as JSON; infinite numbers become null."""
        values = {k: v for k, v in vars(self).items() if k not in ("samples", "forecast")}
        values["forecast"] = None if self.forecast is None else self.forecast.to_values()
        values["noise"], values["known"] = vars(self.noise), vars(self.known)
        values["samples"] = [[float(f"{v:.9g}") for v in row] for row in self.samples.tolist()]
        return json.dumps(_finite(values), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Fit":
        """The inverse of `to_json`. Raises UserError when the text is no fit."""
        try:
            values = json.loads(text)
            values["intervals"] = {
                k: (-math.inf if low is None else low, math.inf if high is None else high)
                for k, (low, high) in values["intervals"].items()
            }
            values["ranges"] = {k: tuple(v) for k, v in values["ranges"].items()}
            for name in ("delta", "condition", "objective"):
                values[name] = math.inf if values[name] is None else values[name]
            values["errors"] = {
                k: math.inf if v is None else v for k, v in values["errors"].items()
            }
            for name in ("flags", "unidentified", "free"):
                values[name] = tuple(values[name])
            values["noise"] = Noise(**values["noise"])
            said = values.get("known") or {"values": {}, "source": ""}
            true = {name: tuple(value) for name, value in said["values"].items()}
            values["known"] = Known(true, said["source"])
            samples = np.array(values["samples"], float)
            values["samples"] = samples.reshape(-1, len(values["free"]))
            kept = values.pop("forecast", None)
            found = cls(**values)
            return found if kept is None else replace(found, forecast=found._forecast_of(kept))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"this is no fit.json of `launch.py fit`: {e}") from None

    def off(self) -> str:
        """How far the fit is from what is known, in standard errors of its own."""
        said = []
        for name, (true, unsure) in self.known.values.items():
            text = f"{name} = {true:.6g}" + (f" ± {unsure:.2g}" if unsure else "")
            off = self.known.off(name, self.params[name], self.errors.get(name, 0.0))
            if math.isfinite(off):
                interval = self.intervals[name]
                inside = self.known.holds(name, self.params[name], interval, self.level)
                text += f", the fit {off:+.1f} standard errors off, its interval "
                text += "holds it" if inside else "misses it"
            said.append(text)
        return "; ".join(said)

    def __str__(self) -> str:
        lines = [f"{self.law}: {self.formula}"]
        for name, value in self.params.items():
            beside = " (given)" if name in self.fixed else ""
            if name in self.intervals:
                low, high = self.intervals[name]
                beside = f"  [{low:.5g}, {high:.5g}]"
            lines.append(f"  {name} = {value:.6g}{beside}")
        if self.known:
            lines.append(f"  truth: {self.off()} ({self.known.source})")
        known = f"{self.level:.0%} intervals: {self.method}" if self.intervals else "no intervals"
        lines.append(
            f"  {known}; {self.loss_function} = "
            f"{self.objective:.12g}; n = {self.n}, dropped {self.dropped}; {self.status}"
        )
        lines.append(
            f"  {self.reached} of {self.polished} starts ended there, chosen among {self.starts}; "
            f"condition number {self.condition:.2g}"
        )
        lines += [f"  {line}" for line in (self.holds(),) if line]
        counted = (f"{name}: {what}" for name, what in self.conventions.items())
        lines += [f"  {line}" for line in counted]
        return "\n".join([*lines, *(f"  note: {flag}" for flag in self.flags)])


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
