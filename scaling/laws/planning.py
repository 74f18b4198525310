"""The next budget: how large, how long, what loss.

`plan` gives the compute-optimal params and amount of data with intervals, the cost of another size,
and the optimum when inference is paid too. Takes a `Fit`, and the `Shapes` that say what a size
costs; called by `plan_command.py`, by `design.py`, which proposes runs, and by `rungs.py`, which
turns a plan into runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.measures import TOKEN
from scaling.laws.result import Fit
from scaling.laws.shapes import ByFormula, Shapes

FORMULA = ByFormula()

INFERENCE = 1 / 3  # FLOPs of the forward pass alone, of those of training
POINTS = 241  # sizes compared along one budget
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """What to do with a budget of training FLOPs."""

    flops: float
    unit: str  # what data are counted in
    convention: str  # how FLOPs are
    params: Estimate
    amount: Estimate  # of data, in units
    loss: Estimate  # of one more run: it may depart from the law (docs/intervals.md)
    level: float
    other_sizes: pd.DataFrame  # params, amount, loss, extra loss, FLOPs wasted (share)
    inference: dict[str, float] | None  # params, amount, training_flops, total_flops, saved
    notes: tuple[str, ...]


def check(fitted: Fit) -> None:
    """Raises UserError for a fit that gives no plan."""
    if set(fitted.x) - {"unique_tokens"} != {"params", "tokens"}:
        raise UserError(
            f"a plan needs a law of params and {fitted.unit or TOKEN}s, as --law=chinchilla; "
            f"{fitted.law} reads "
            f"{', '.join(fitted.x.values())}"
        )
    if fitted.tied:
        raise UserError(
            f"in all rows of this fit the {fitted.unit or TOKEN}s follow from the parameters, so "
            "that nothing says how the two share a budget: fit runs of several amounts at each "
            "size, such as those of scaling.studies.ladder.isoflop"
        )
    if fitted.status == "not converged":
        raise UserError(f"{fitted.law}: the fit did not converge, so nothing is planned on it")


def values(
    fitted: Fit, params: np.ndarray, amount: np.ndarray, unique: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The law's value at runs [rows], and that of every draw [draws, rows]."""
    at = {"params": params, "tokens": amount}
    if "unique_tokens" in fitted.x:
        at["unique_tokens"] = amount if unique is None else np.minimum(amount, unique)
    return fitted.draws(at)


def _vertex(log_size: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least point of each row of losses [draws, sizes], refined by a parabola; NaN at an edge."""
    at = np.argmin(losses, axis=1)
    inside = (at > 0) & (at < len(log_size) - 1)
    at = np.clip(at, 1, len(log_size) - 2)
    rows = np.arange(len(losses))
    left, mid, right = (losses[rows, at + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend > 0, 0.5 * (left - right) / np.where(bend > 0, bend, 1), 0.0)
    least = mid - 0.25 * (left - right) * shift
    place = log_size[at] + shift * (log_size[1] - log_size[0])
    return np.where(inside, place, np.nan), np.where(inside, least, np.nan)


def _estimate(values: np.ndarray, best: float, level: float) -> Estimate:
    finite = values[np.isfinite(values)]
    if len(finite) < 0.5 * len(values) or not len(finite):
        return Estimate(best, 0.0, np.inf)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(best, float(min(low, best)), float(max(high, best)))


def optimum(
    fitted: Fit, flops: float, *, shapes: Shapes = FORMULA, unique: float | None = None
) -> tuple[float, np.ndarray]:
    """log of the compute-optimal params at a budget: of the fit, and of every draw [draws]."""
    lowest, highest = fitted.ranges["params"]
    even, (smallest, largest) = shapes.even(flops), shapes.span()
    # Sizes well beyond those fitted and beyond what the budget could train on a unit each.
    first, last = max(min(lowest, even) / 1e3, smallest), min(max(highest, even) * 1e3, largest)
    grid = np.linspace(np.log(first), np.log(last), POINTS)
    size = np.exp(grid)
    best, drawn = values(fitted, size, flops / shapes.flops_per_unit(size), unique)
    place, _ = _vertex(grid, np.concatenate([best[None], drawn]))
    return float(place[0]), place[1:]


def no_minimum(fitted: Fit, flops: float, shapes: Shapes) -> str:
    """Why a budget has no plan, as a clause of a message."""
    text = f"the loss of {fitted.law} has no minimum over params at {flops:g} FLOPs"
    smallest, largest = shapes.span()
    if smallest > 0:
        text += f" among the models that there are, of {smallest:.3g} to {largest:.3g} params"
    return text


def plan(
    fitted: Fit,
    flops: float,
    *,
    shapes: Shapes = FORMULA,
    inference: float = 0.0,
    unique: float | None = None,
    level: float | None = None,
) -> Plan:
    """The compute-optimal run of a budget.

    Args:
      fitted: a law of params and data, with draws.
      flops: training budget.
      shapes: what a unit costs of each size; by default 6 FLOPs a param a token.
      inference: units that will be generated or read after training, at a third of the FLOPs; the
        inference-aware optimum reaches the same loss at the least sum (Sardana et al. 2023,
        arXiv 2401.00448).
      unique: distinct units, for the data-constrained law; None: as many as are trained on.
      level: of the intervals; None: the fit's.

    Raises UserError when the law has no interior optimum, or knows no distinct units.
    """
    check(fitted)
    if not flops > 0 or inference < 0:
        raise UserError(
            f"--flops={flops:g} must be positive, --inference_units={inference:g} not negative"
        )
    if unique is not None:
        if "unique_tokens" not in fitted.x:
            raise UserError(
                f"--unique_units: {fitted.law} reads only {', '.join(fitted.x.values())}; leave it "
                "out, or plan from a fit of data_constrained"
            )
        if not unique > 0:
            raise UserError(f"--unique_units={unique:g} must be positive")
    level = fitted.level if level is None else level
    log_params, drawn = optimum(fitted, flops, shapes=shapes, unique=unique)
    if not np.isfinite(log_params):
        raise UserError(f"--flops={flops:g}: {no_minimum(fitted, flops, shapes)}")
    params = float(np.exp(log_params))
    amount = float(flops / shapes.flops_per_unit(params))
    at = {"params": np.array([params]), "tokens": np.array([amount])}
    if "unique_tokens" in fitted.x:
        at["unique_tokens"] = np.array([min(amount, unique or amount)])
    predicted = fitted.predict(at, level=level)
    notes = [*fitted.flags]
    for name, value in (("params", params), ("tokens", amount)):
        low, high = fitted.ranges[name]
        if not low <= value <= high:
            times = value / high if value > high else low / value
            side = "above" if value > high else "below"
            called = f"{shapes.unit}s" if name == "tokens" else name
            notes.append(f"{called} {value:.3g} is {times:.3g}x {side} the runs that were fitted")
    amounts = flops / shapes.flops_per_unit(np.exp(drawn))
    return Plan(
        flops=flops,
        unit=shapes.unit,
        convention=shapes.convention,
        params=_estimate(np.exp(drawn), params, level),
        amount=_estimate(amounts, amount, level),
        loss=Estimate(float(predicted.mean[0]), float(predicted.low[0]), float(predicted.high[0])),
        level=level,
        other_sizes=_other_sizes(fitted, flops, params, shapes, unique),
        inference=_inference(fitted, flops, params, inference, shapes, unique),
        notes=tuple(notes),
    )


def _other_sizes(
    fitted: Fit, flops: float, params: float, shapes: Shapes, unique: float | None
) -> pd.DataFrame:
    """The same budget spent on another size: what it loses, and the FLOPs that this wastes."""
    sizes = params * np.array(MULTIPLES)
    amounts = flops / shapes.flops_per_unit(sizes)
    losses = values(fitted, sizes, amounts, unique)[0]
    budgets = flops * np.geomspace(0.02, 1, 25)
    at = [optimum(fitted, f, shapes=shapes, unique=unique)[0] for f in budgets]
    places = np.exp(at)
    best = values(fitted, places, budgets / shapes.flops_per_unit(places), unique)[0]
    there = np.isfinite(best)  # a recipe's smallest model may be too large for the least budgets
    # The budget at which the optimum has the loss of the other size; all of it at the optimum.
    equal = np.exp(np.interp(-losses, -best[there], np.log(budgets[there])))
    equal[MULTIPLES.index(1.0)] = flops
    return pd.DataFrame({
        "params_multiple": MULTIPLES, "params": sizes, "amount": amounts, "loss": losses,
        "extra_loss": losses - losses[MULTIPLES.index(1.0)], "flops_wasted": 1 - equal / flops,
    })  # fmt: skip


def _inference(
    fitted: Fit,
    flops: float,
    params: float,
    inference: float,
    shapes: Shapes,
    unique: float | None,
) -> dict[str, float] | None:
    """Least training plus inference FLOPs that reach the compute-optimal loss."""
    if inference == 0:
        return None
    base = float(flops / shapes.flops_per_unit(params))
    sizes, amounts = params * np.geomspace(0.02, 1.5, 301), base * np.geomspace(0.2, 1e4, 401)
    wide, long = (a.reshape(-1) for a in np.meshgrid(sizes, amounts, indexing="ij"))
    losses = values(fitted, wide, long, unique)[0].reshape(len(sizes), len(amounts))
    goal = float(values(fitted, np.array([params]), np.array([base]), unique)[0][0])
    needed = np.full(len(sizes), np.inf)
    for i, row in enumerate(losses):
        if row.min() <= goal:
            needed[i] = np.exp(np.interp(-goal, -row, np.log(amounts)))
    training = shapes.flops_per_unit(sizes)
    total = training * needed + INFERENCE * training * inference
    at = int(np.argmin(total))
    plain = flops + INFERENCE * float(shapes.flops_per_unit(params)) * inference
    return {
        "params": float(sizes[at]), "amount": float(needed[at]), "loss": goal,
        "training_flops": float(training[at] * needed[at]),
        "total_flops": float(total[at]), "saved": float(1 - total[at] / plain),
    }  # fmt: skip


def summary(result: Plan) -> Mapping[str, Any]:
    """A plan as plain values, for JSON; amounts under their unit's name."""
    unit, other = f"{result.unit}s", result.other_sizes
    inference = result.inference
    if inference is not None:
        inference = {unit if k == "amount" else k: v for k, v in inference.items()}
    return {
        "flops": result.flops, "convention": result.convention, "level": result.level,
        "params": vars(result.params), unit: vars(result.amount), "loss": vars(result.loss),
        "other_sizes": other.rename(columns={"amount": unit}).to_dict("records"),
        "inference": inference, "notes": list(result.notes),
    }  # fmt: skip
