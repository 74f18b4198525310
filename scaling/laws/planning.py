"""The next budget: how large, how long, what loss.

`plan` gives the compute-optimal params and tokens with intervals, the cost of another size, and the
optimum when inference is paid too. Takes a `Fit` only; called by `plan_command.py`, by `design.py`,
which proposes runs, and by `rungs.py`, which turns a plan into runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.result import Fit

FLOPS_PER = 6.0  # training FLOPs a param a token
CONVENTION = f"FLOPs = {FLOPS_PER:g} x params x tokens"  # others count attention too
INFERENCE = 2.0  # inference FLOPs a param a token
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
    params: Estimate
    tokens: Estimate
    loss: Estimate
    level: float
    other_sizes: pd.DataFrame  # params, tokens, loss, extra loss, FLOPs wasted (share)
    inference: dict[str, float] | None  # params, tokens, training_flops, total_flops, saved
    notes: tuple[str, ...]


def check(fitted: Fit) -> None:
    """Raises UserError for a fit that gives no plan."""
    if set(fitted.x) - {"unique_tokens"} != {"params", "tokens"}:
        raise UserError(
            f"a plan needs a law of params and tokens, as --law=chinchilla; {fitted.law} reads "
            f"{', '.join(fitted.x.values())}"
        )
    if fitted.status == "not converged":
        raise UserError(f"{fitted.law}: the fit did not converge, so nothing is planned on it")


def values(
    fitted: Fit, params: np.ndarray, tokens: np.ndarray, unique_tokens: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The law's value at runs [rows], and that of every draw [draws, rows]."""
    at = {"params": params, "tokens": tokens}
    if "unique_tokens" in fitted.x:
        unique = tokens if unique_tokens is None else np.minimum(tokens, unique_tokens)
        at["unique_tokens"] = unique
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
    fitted: Fit, flops: float, *, unique_tokens: float | None = None
) -> tuple[float, np.ndarray]:
    """log of the compute-optimal params at a budget: of the fit, and of every draw [draws]."""
    lowest, highest = fitted.ranges["params"]
    # Sizes well beyond those fitted and beyond what the budget could train on a token each.
    first = np.log(min(lowest, (flops / FLOPS_PER) ** 0.5) / 1e3)
    last = np.log(max(highest, (flops / FLOPS_PER) ** 0.5) * 1e3)
    grid = np.linspace(first, last, POINTS)
    size = np.exp(grid)
    best, drawn = values(fitted, size, flops / FLOPS_PER / size, unique_tokens)
    place, _ = _vertex(grid, np.concatenate([best[None], drawn]))
    return float(place[0]), place[1:]


def plan(
    fitted: Fit,
    flops: float,
    *,
    inference_tokens: float = 0.0,
    unique_tokens: float | None = None,
    level: float | None = None,
) -> Plan:
    """The compute-optimal run of a budget, at 6 FLOPs a param a token.

    Args:
      fitted: a law of params and tokens, with draws.
      flops: training budget.
      inference_tokens: tokens that will be generated or read after training, at 2 FLOPs a param;
        the inference-aware optimum reaches the same loss at the least sum (Sardana et al. 2023,
        arXiv 2401.00448).
      unique_tokens: for the data-constrained law; None: as many as are trained on.
      level: of the intervals; None: the fit's.

    Raises UserError when the law has no interior optimum, or knows no unique tokens.
    """
    check(fitted)
    if not flops > 0 or inference_tokens < 0:
        raise UserError(
            f"--flops={flops:g} must be positive, --inference_tokens={inference_tokens:g} not "
            "negative"
        )
    if unique_tokens is not None:
        if "unique_tokens" not in fitted.x:
            raise UserError(
                f"--unique_tokens: {fitted.law} reads only {', '.join(fitted.x)}; leave it out, or "
                "plan from a fit of data_constrained"
            )
        if not unique_tokens > 0:
            raise UserError(f"--unique_tokens={unique_tokens:g} must be positive")
    level = fitted.level if level is None else level
    log_params, drawn = optimum(fitted, flops, unique_tokens=unique_tokens)
    if not np.isfinite(log_params):
        raise UserError(
            f"--flops={flops:g}: the loss of {fitted.law} has no minimum over params there"
        )
    params = float(np.exp(log_params))
    tokens = flops / FLOPS_PER / params
    at = {"params": np.array([params]), "tokens": np.array([tokens])}
    if "unique_tokens" in fitted.x:
        at["unique_tokens"] = np.array([min(tokens, unique_tokens or tokens)])
    predicted = fitted.predict(at, level=level)
    notes = [*fitted.flags]
    for name, value in (("params", params), ("tokens", tokens)):
        low, high = fitted.ranges[name]
        if not low <= value <= high:
            times = value / high if value > high else low / value
            side = "above" if value > high else "below"
            notes.append(f"{name} {value:.3g} is {times:.3g}x {side} the runs that were fitted")
    return Plan(
        flops=flops,
        params=_estimate(np.exp(drawn), params, level),
        tokens=_estimate(flops / FLOPS_PER / np.exp(drawn), tokens, level),
        loss=Estimate(float(predicted.mean[0]), float(predicted.low[0]), float(predicted.high[0])),
        level=level,
        other_sizes=_other_sizes(fitted, flops, params, unique_tokens),
        inference=_inference(fitted, flops, params, inference_tokens, unique_tokens),
        notes=tuple(notes),
    )


def _frontier(
    fitted: Fit, flops: np.ndarray, unique_tokens: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Params and loss of the compute-optimal run at each budget."""
    places = np.exp([optimum(fitted, f, unique_tokens=unique_tokens)[0] for f in flops])
    return places, values(fitted, places, flops / FLOPS_PER / places, unique_tokens)[0]


def _other_sizes(
    fitted: Fit, flops: float, params: float, unique_tokens: float | None
) -> pd.DataFrame:
    """The same budget spent on another size: what it loses, and the FLOPs that this wastes."""
    sizes = params * np.array(MULTIPLES)
    tokens = flops / FLOPS_PER / sizes
    losses = values(fitted, sizes, tokens, unique_tokens)[0]
    budgets = flops * np.geomspace(0.02, 1, 25)
    _, best = _frontier(fitted, budgets, unique_tokens)
    # The budget at which the optimum has the loss of the other size; all of it at the optimum.
    equal = np.exp(np.interp(-losses, -best, np.log(budgets)))
    equal[MULTIPLES.index(1.0)] = flops
    return pd.DataFrame({
        "params_multiple": MULTIPLES, "params": sizes, "tokens": tokens, "loss": losses,
        "extra_loss": losses - losses[MULTIPLES.index(1.0)], "flops_wasted": 1 - equal / flops,
    })  # fmt: skip


def _inference(
    fitted: Fit, flops: float, params: float, inference_tokens: float, unique_tokens: float | None
) -> dict[str, float] | None:
    """Least training plus inference FLOPs that reach the compute-optimal loss."""
    if inference_tokens == 0:
        return None
    sizes = params * np.geomspace(0.02, 1.5, 301)
    tokens = flops / FLOPS_PER / params * np.geomspace(0.2, 1e4, 401)
    wide, long = (a.reshape(-1) for a in np.meshgrid(sizes, tokens, indexing="ij"))
    losses = values(fitted, wide, long, unique_tokens)[0].reshape(len(sizes), len(tokens))
    base = flops / FLOPS_PER / params
    goal = float(values(fitted, np.array([params]), np.array([base]), unique_tokens)[0][0])
    needed = np.full(len(sizes), np.inf)
    for i, row in enumerate(losses):
        if row.min() <= goal:
            needed[i] = np.exp(np.interp(-goal, -row, np.log(tokens)))
    total = FLOPS_PER * sizes * needed + INFERENCE * sizes * inference_tokens
    at = int(np.argmin(total))
    plain = flops + INFERENCE * params * inference_tokens
    return {
        "params": float(sizes[at]), "tokens": float(needed[at]), "loss": goal,
        "training_flops": float(FLOPS_PER * sizes[at] * needed[at]),
        "total_flops": float(total[at]), "saved": float(1 - total[at] / plain),
    }  # fmt: skip


# ---- as JSON


def summary(result: Plan) -> Mapping[str, Any]:
    """A plan as plain values, for JSON."""
    return {
        "flops": result.flops, "convention": CONVENTION, "level": result.level,
        "params": vars(result.params), "tokens": vars(result.tokens), "loss": vars(result.loss),
        "other_sizes": result.other_sizes.to_dict("records"), "inference": result.inference,
        "notes": list(result.notes),
    }  # fmt: skip
