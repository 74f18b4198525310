"""Which runs next: those that shrink the interval at a target most per FLOP.

Takes a `Fit` with draws and noise, and the `Shapes` that say what a size costs; called by
`plan_command.py`.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.measures import TOKEN
from scaling.laws.planning import FORMULA, check, no_minimum, optimum, values
from scaling.laws.result import Fit
from scaling.laws.shapes import Shapes

EVEN = 6  # runs of the even grid that a design is compared with


@dataclass(frozen=True)
class Design:
    """Runs that a budget should buy, and what they would do to the interval at the target."""

    runs: pd.DataFrame  # params, amounts under their unit's name, flops, count
    half_width: float  # of the interval of the loss at the target but for noise, now (relative)
    designed: float  # after these runs
    even: float  # after an even grid of the same cost
    even_runs: pd.DataFrame
    sentence: str


def design(
    fitted: Fit,
    target_flops: float,
    budget: float,
    *,
    shapes: Shapes = FORMULA,
    largest_share: float = 0.5,
    runs: int = 12,
) -> Design:
    """The next runs that shrink the interval at the target most per FLOP.

    A greedy c-optimal design: each run's information is the outer product of the sensitivities
    there, over the noise variance there. Where the fit knows that its form may be wrong
    (docs/intervals.md), these are of the law and of its departure, and runs near the target shrink
    doubt about the form too; else of the law alone, and what is known now is the covariance of its
    draws. The even grid takes as many sizes, evenly spaced in log, each trained on an equal share
    of the budget. Runs of fewer than 1 or more than 1,000 tokens a param are not considered: no law
    is known to hold there. Of other units, those outside the ratios that were fitted are not.

    Args:
      fitted: a law of params and data, with draws and noise.
      target_flops: compute-optimal run whose loss is wanted.
      budget: FLOPs for all new runs together.
      shapes: which models there are, and what a unit costs of each.
      largest_share: of the budget that one run may take.
      runs: about so many; up to four times as many when that is better.

    Raises UserError when the fit has no draws or no noise.
    """
    check(fitted)
    if len(fitted.samples) < 50:
        few = f"the fit has only {len(fitted.samples)} resamples: fit again with --bootstrap=1000"
        raise UserError(f"--design: {few if len(fitted.samples) else fitted.why_no_draws()}")
    if not fitted.noise.sd > 0:
        raise UserError("--design: all runs lie exactly on the law, so that no run tells more")
    if not budget > 0 or not target_flops > 0:
        raise UserError(f"--budget={budget:g} and --flops={target_flops:g} must be positive")
    size, length = fitted.ranges["params"], fitted.ranges["tokens"]
    fewest, most_units = 1.0, 1e3  # units a param
    if shapes.unit != TOKEN:
        fewest, most_units = length[0] / size[1], length[1] / size[0]
    even_size = shapes.even(budget)
    smallest, largest = shapes.span()
    limits = max(size[0], smallest), min(max(size[1], even_size), largest)
    sizes = shapes.offered(np.geomspace(*limits, 25))
    lengths = np.geomspace(
        length[0], max(length[1], budget / shapes.flops_per_unit(even_size) * 20), 25
    )
    wide, long = (a.reshape(-1) for a in np.meshgrid(sizes, lengths, indexing="ij"))
    cost = shapes.flops_per_unit(wide) * long
    allowed = cost <= largest_share * budget
    allowed &= (long >= fewest * wide) & (long <= most_units * wide)
    if not allowed.any():
        raise UserError(f"--budget={budget:g} buys none of the sizes fitted so far")
    wide, long, cost = wide[allowed], long[allowed], cost[allowed]
    log_target, _ = optimum(fitted, target_flops, shapes=shapes)
    if not np.isfinite(log_target):
        raise UserError(f"--flops={target_flops:g}: {no_minimum(fitted, target_flops, shapes)}")
    params = float(np.exp(log_target))
    target = (params, float(target_flops / shapes.flops_per_unit(params)))
    share, named = budget / EVEN, f"{shapes.unit}s"
    longest = shapes.even(share, fewest)
    shortest = max(wide.min(), shapes.even(share, most_units))
    even_sizes = shapes.offered(np.geomspace(min(shortest, longest), longest, EVEN))
    even_units = share / shapes.flops_per_unit(even_sizes)
    even = pd.DataFrame({"params": even_sizes, named: even_units})
    wide, long = (np.concatenate([a, even[n]]) for a, n in ((wide, "params"), (long, named)))
    cost = shapes.flops_per_unit(wide) * long
    outlook = _outlook(fitted, np.append(wide, target[0]), np.append(long, target[1]))

    def greedy(most: int) -> list[int]:
        """Run after run, the one that gains most per FLOP, none too small to use up the budget."""
        chosen, known = list[int](), outlook.covariance
        while len(chosen) < most:
            left = budget - cost[chosen].sum()
            fits = (cost <= left) & (cost >= left / (2 * (most - len(chosen))))
            if not fits.any():
                break
            shrink = outlook.shrink(known)
            chosen.append(int(np.argmax(np.where(fits, shrink / cost, -np.inf))))
            known = outlook.after(known, chosen[-1])
        return chosen

    def spread(chosen: list[int]) -> float:
        return outlook.spread(functools.reduce(outlook.after, chosen, outlook.covariance))

    on_grid = list(range(len(wide) - len(even), len(wide)))
    # Few large runs or many small ones: the better; the even grid itself is one of the offers.
    offers = [on_grid, *(greedy(most) for most in sorted({3, 6, runs, 2 * runs, 4 * runs}))]
    chosen = min(offers, key=spread)
    picked = pd.DataFrame({"params": wide[chosen], named: long[chosen], "flops": cost[chosen]})
    picked = picked.groupby(["params", named, "flops"], as_index=False).size()
    picked = picked.rename(columns={"size": "count"}).sort_values("flops")
    half = 1.645 * np.sqrt([spread([]), spread(chosen), spread(on_grid)])
    sentence = (
        f"The interval at {target_flops:.3g} FLOPs, but for noise, is ±{100 * half[0]:.2g} % now; "
        f"{len(chosen)} proposed runs for {cost[chosen].sum():.3g} FLOPs make it "
        f"±{100 * half[1]:.2g} %, an even grid of {len(even)} runs for {budget:.3g} FLOPs "
        f"±{100 * half[2]:.2g} %."
    )
    even = even.assign(flops=cost[on_grid])
    return Design(picked, float(half[0]), float(half[1]), float(half[2]), even, sentence)


@dataclass(frozen=True)
class _Outlook:
    """What runs would tell of a target, in each account of how wrong the form is; of the law alone
    there is one account.
    """

    share: np.ndarray  # of each account [accounts]
    covariance: np.ndarray  # of the coordinates, now [accounts, p, p]
    offered: np.ndarray  # sensitivities of the runs on offer [accounts, rows, p]
    variance: np.ndarray  # of a run there, about what the coordinates say [accounts, rows]
    goal: np.ndarray  # sensitivity of the target [accounts, p]
    rest: np.ndarray  # variance at the target that no run on offer shrinks [accounts]

    def shrink(self, known: np.ndarray) -> np.ndarray:
        """By how much each run would shrink the variance at the target [rows]."""
        gained = self.offered @ known
        told = (gained @ self.goal[:, :, None])[:, :, 0] ** 2
        return self.share @ (told / (self.variance + (gained * self.offered).sum(axis=2)))

    def after(self, known: np.ndarray, run: int) -> np.ndarray:
        """The covariance after a run (Sherman-Morrison)."""
        slope = self.offered[:, run]
        gained = np.einsum("apq,aq->ap", known, slope)
        total = self.variance[:, run] + (slope * gained).sum(axis=1)
        return known - gained[:, :, None] * gained[:, None, :] / total[:, None, None]

    def spread(self, known: np.ndarray) -> float:
        """Variance at the target."""
        own = np.einsum("ap,apq,aq->a", self.goal, known, self.goal)
        return float(self.share @ (own + self.rest))


def _outlook(fitted: Fit, params: np.ndarray, amount: np.ndarray) -> _Outlook:
    """What runs would tell of the last of them, in logarithms of the loss."""
    if fitted.forecast is None:
        slopes, covariance = _slopes(fitted, params, amount)
        variance = np.full((1, len(slopes) - 1), fitted.noise.sd**2)
        return _Outlook(
            np.ones(1), covariance[None], slopes[None, :-1], variance, slopes[None, -1], np.zeros(1)
        )
    at = {"params": params, "tokens": amount}
    if "unique_tokens" in fitted.x:
        at["unique_tokens"] = amount
    explainer, accounts, share, rows = fitted.forecast.foreseen(
        fitted.raw_of(at), fitted.columns_of(at)
    )
    value, slopes, left = explainer.slopes(accounts, rows)
    noise = explainer.tell(accounts, rows).noise
    unit = np.ones_like(value) if fitted.space == "log" else 1 / np.abs(value)
    scale = float(fitted.forecast.sureness(fitted.raw_of(at))[0][-1])
    slopes = slopes * unit[:, :, None] * scale
    variance = (noise + left) * (unit * scale) ** 2
    return _Outlook(
        share, accounts.covariance, slopes[:, :-1], variance[:, :-1], slopes[:, -1],
        left[:, -1] * (unit[:, -1] * scale) ** 2,
    )  # fmt: skip


def _slopes(fitted: Fit, params: np.ndarray, amount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity of the log loss at each run to the parameters [runs, free], in units of their
    draws' principal directions, and the covariance in those units.

    By least squares of the drawn losses on the drawn parameters: the slopes hold over the whole
    spread of the draws rather than at one point.
    """
    drawn = values(fitted, params, amount, None)[1]
    problem = fitted._problem()
    at = problem.coordinates(fitted.samples)
    good = np.isfinite(at).all(axis=1) & np.isfinite(drawn).all(axis=1) & (drawn > 0).all(axis=1)
    at, logs = at[good], np.log(drawn[good])
    at = at - at.mean(axis=0)
    left, size, _ = np.linalg.svd(at, full_matrices=False)
    keep = size > 1e-9 * size[0]
    unit = left[:, keep] * np.sqrt(len(at))
    slopes = unit.T @ (logs - logs.mean(axis=0)) / len(at)
    return slopes.T, np.eye(int(keep.sum()))
