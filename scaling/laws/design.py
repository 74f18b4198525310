"""Which runs next: those that shrink the interval at a target most per FLOP.

Takes a `Fit` with draws and noise; called by `plan_command.py`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.planning import FLOPS_PER, check, optimum, values
from scaling.laws.result import Fit

EVEN = 6  # runs of the even grid that a design is compared with


@dataclass(frozen=True)
class Design:
    """Runs that a budget should buy, and what they would do to the interval at the target."""

    runs: pd.DataFrame  # params, tokens, flops, count
    half_width: float  # of the interval of the law's value at the target, now (relative)
    designed: float  # after these runs
    even: float  # after an even grid of the same cost
    even_runs: pd.DataFrame
    sentence: str


def design(
    fitted: Fit, target_flops: float, budget: float, *, largest_share: float = 0.5, runs: int = 12
) -> Design:
    """The next runs that shrink the interval at the target most per FLOP.

    A greedy c-optimal design on the fitted law: each run's information is the outer product of the
    law's sensitivities there, over the noise variance; what is known now is the covariance of the
    draws. The even grid takes as many sizes, evenly spaced in log, each trained on an equal share
    of the budget. Runs of fewer than 1 or more than 1,000 tokens a param are not considered: no law
    is known to hold there.

    Args:
      fitted: a law of params and tokens, with draws and noise.
      target_flops: compute-optimal run whose loss is wanted.
      budget: FLOPs for all new runs together.
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
    sizes = np.geomspace(size[0], max(size[1], np.sqrt(budget / FLOPS_PER)), 25)
    lengths = np.geomspace(length[0], max(length[1], np.sqrt(budget / FLOPS_PER) * 20), 25)
    wide, long = (a.reshape(-1) for a in np.meshgrid(sizes, lengths, indexing="ij"))
    cost = FLOPS_PER * wide * long
    allowed = (cost <= largest_share * budget) & (long >= wide) & (long <= 1e3 * wide)
    if not allowed.any():
        raise UserError(f"--budget={budget:g} buys none of the sizes fitted so far")
    wide, long, cost = wide[allowed], long[allowed], cost[allowed]
    log_target, _ = optimum(fitted, target_flops)
    params = float(np.exp(log_target))
    target = (params, target_flops / FLOPS_PER / params)
    share = budget / EVEN
    longest = np.sqrt(share / FLOPS_PER)  # at one token a param
    even_sizes = np.geomspace(max(wide.min(), longest / 1e3**0.5), longest, EVEN)
    even = pd.DataFrame({"params": even_sizes, "tokens": share / FLOPS_PER / even_sizes})
    wide, long = (np.concatenate([a, even[n]]) for a, n in ((wide, "params"), (long, "tokens")))
    cost = FLOPS_PER * wide * long
    slopes, covariance = _slopes(fitted, np.append(wide, target[0]), np.append(long, target[1]))
    goal, offered = slopes[-1], slopes[:-1]
    variance = fitted.noise.sd**2

    def after(chosen: list[int]) -> np.ndarray:
        """Covariance of the parameters after these runs (Sherman-Morrison, run by run)."""
        known = covariance
        for slope in offered[chosen]:
            gained = known @ slope
            known = known - np.outer(gained, gained) / (variance + slope @ gained)
        return known

    def greedy(most: int) -> list[int]:
        """Run after run, the one that gains most per FLOP, none too small to use up the budget."""
        chosen: list[int] = []
        while len(chosen) < most:
            left = budget - cost[chosen].sum()
            known = after(chosen)
            gained = offered @ known
            shrink = (gained @ goal) ** 2 / (variance + np.einsum("rp,rp->r", gained, offered))
            fits = (cost <= left) & (cost >= left / (2 * (most - len(chosen))))
            if not fits.any():
                break
            chosen.append(int(np.argmax(np.where(fits, shrink / cost, -np.inf))))
        return chosen

    def spread(chosen: list[int]) -> float:
        return float(goal @ after(chosen) @ goal)

    on_grid = list(range(len(wide) - EVEN, len(wide)))
    # Few large runs or many small ones: the better; the even grid itself is one of the offers.
    offers = [on_grid, *(greedy(most) for most in sorted({3, 6, runs, 2 * runs, 4 * runs}))]
    chosen = min(offers, key=spread)
    picked = pd.DataFrame({"params": wide[chosen], "tokens": long[chosen], "flops": cost[chosen]})
    picked = picked.groupby(["params", "tokens", "flops"], as_index=False).size()
    picked = picked.rename(columns={"size": "count"}).sort_values("flops")
    half = 1.645 * np.sqrt([spread([]), spread(chosen), spread(on_grid)])
    sentence = (
        f"The interval at {target_flops:.3g} FLOPs is ±{100 * half[0]:.2g} % now; "
        f"{len(chosen)} proposed runs for {cost[chosen].sum():.3g} FLOPs make it "
        f"±{100 * half[1]:.2g} %, an even grid of {EVEN} runs for {budget:.3g} FLOPs "
        f"±{100 * half[2]:.2g} %."
    )
    even = even.assign(flops=FLOPS_PER * even["params"] * even["tokens"])
    return Design(picked, float(half[0]), float(half[1]), float(half[2]), even, sentence)


def _slopes(fitted: Fit, params: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity of the log loss at each run to the parameters [runs, free], in units of their
    draws' principal directions, and the covariance in those units.

    By regression of the drawn losses on the drawn parameters: the slopes hold over the whole
    spread of the draws rather than at one point.
    """
    drawn = values(fitted, params, tokens, None)[1]
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
