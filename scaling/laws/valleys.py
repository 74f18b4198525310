"""The loss against size at one budget, and its minimum.

Takes columns of a table; gives the valley of every budget, or why it has no minimum: one at the
edge of the sizes tried says only that the true one lies beyond. Called by `isoflop.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.errors import UserError

BUDGET = 1.05  # rows whose FLOPs differ by less than this factor share a budget


@dataclass(frozen=True)
class Valley:
    """The loss against size at one budget, and its minimum."""

    flops: float
    size: np.ndarray  # params (or units of data), ascending
    loss: np.ndarray
    best_size: float | None  # None: refused
    best_loss: float | None
    sd_log_size: float  # of log best_size, from noise draws (0: no noise given)
    refused: str  # why, or ""


@dataclass(frozen=True)
class Minimum:
    """Least points of many interpolated valleys, an entry a valley."""

    knot: np.ndarray  # index of the least measured loss
    log_size: np.ndarray  # NaN: the interpolant has no minimum
    log_loss: np.ndarray


def akima_minimum(log_size: np.ndarray, log_loss: np.ndarray) -> Minimum:
    """Least points of the Akima interpolants of log_loss [valleys, sizes] over log_size [sizes]."""
    knot = np.argmin(log_loss, axis=1)
    from scipy.interpolate import Akima1DInterpolator  # slow to import, needed by few commands

    curve = Akima1DInterpolator(log_size, log_loss.T)
    # A cubic per interval: the stationary points of each are the roots of a quadratic.
    cubic, square, linear, level = curve.c  # [intervals, valleys] each
    with np.errstate(all="ignore"):
        root = np.sqrt(square**2 - 3 * cubic * linear)
        steps = np.stack([(-square + root) / (3 * cubic), (-square - root) / (3 * cubic),
                          -linear / (2 * square)])  # fmt: skip
    length = np.diff(log_size)[None, :, None]
    steps = np.where(np.isfinite(steps) & (steps > 0) & (steps < length), steps, 0.0)
    values = ((cubic * steps + square) * steps + linear) * steps + level
    places = log_size[:-1][None, :, None] + steps
    ends = np.stack([log_size[-1] + 0 * log_loss[:, -1], log_loss[:, -1]])
    places = np.concatenate([places.reshape(-1, len(log_loss)), ends[:1]])
    values = np.concatenate([values.reshape(-1, len(log_loss)), ends[1:]])
    at = np.argmin(values, axis=0)[None]
    return Minimum(knot, *(np.take_along_axis(v, at, axis=0)[0] for v in (places, values)))


def parabola_minimum(log_size: np.ndarray, log_loss: np.ndarray) -> Minimum:
    """Vertices of the parabolas through the least point and two neighbours on either side (far from
    it a valley is no parabola); log_loss is [valleys, sizes].
    """
    knot, width = np.argmin(log_loss, axis=1), min(5, len(log_size))
    first = np.clip(knot - width // 2, 0, len(log_size) - width)
    window = first[:, None] + np.arange(width)
    x, y = log_size[window], np.take_along_axis(log_loss, window, axis=1)
    centre = x.mean(axis=1, keepdims=True)
    powers = np.stack([(x - centre) ** 2, x - centre, np.ones_like(x)], axis=2)
    normal = np.swapaxes(powers, 1, 2)
    a, b, c = np.linalg.solve(normal @ powers, normal @ y[:, :, None])[:, :, 0].T
    with np.errstate(all="ignore"):
        place = np.where(a > 0, centre[:, 0] - b / (2 * a), np.nan)
        return Minimum(knot, place, np.where(a > 0, c - b * b / (4 * a), np.nan))


def porian_noise(loss: np.ndarray) -> np.ndarray:
    """Standard deviation of a loss: .1 at 6 and above, .01 at 3 and below, log-interpolated.

    Porian et al. 2024 (arXiv 2406.19146), appendix.
    """
    share = (np.clip(np.log(loss), np.log(3), np.log(6)) - np.log(3)) / np.log(2)
    return 10 ** (-2 + share)


def budgets(flops: np.ndarray) -> np.ndarray:
    """Index of the budget of each row: FLOPs that agree within a few percent [rows]."""
    order = np.argsort(flops)
    jump = np.diff(np.log(flops[order]), prepend=np.log(flops[order[0]])) > np.log(BUDGET)
    out = np.empty(len(flops), int)
    out[order] = np.cumsum(jump)
    return out


def valleys(
    flops: np.ndarray,
    size: np.ndarray,
    loss: np.ndarray,
    *,
    method: str = "akima",
    noise: Callable[[np.ndarray], np.ndarray] | float = 0.0,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[Valley, ...]:
    """The valley of every budget, with its minimum or the reason why it is refused.

    Args:
      flops, size, loss: columns [rows]; several runs of one size and budget are averaged.
      method: akima or parabola.
      noise: standard deviation of a loss, or a function of the loss that gives it.
      draws: noise draws, from which each minimum gets its standard deviation.
      seed: of the draws.
    """
    finder = {"akima": akima_minimum, "parabola": parabola_minimum}.get(method)
    if finder is None:
        raise UserError(f"isoflop: no method {method}; akima or parabola")
    rng, budget, out = np.random.default_rng(seed), budgets(flops), []
    for b in range(int(budget.max()) + 1):
        rows = budget == b
        sizes, back = np.unique(size[rows], return_inverse=True)
        losses = np.bincount(back, loss[rows]) / np.bincount(back)
        at_flops = float(np.exp(np.log(flops[rows]).mean()))
        if len(sizes) < 3:
            reason = "a valley needs at least three sizes"
            out.append(Valley(at_flops, sizes, losses, None, None, 0.0, reason))
            continue
        log_size, log_loss = np.log(sizes), np.log(losses)
        found = finder(log_size, log_loss[None])
        at, best, least = int(found.knot[0]), float(found.log_size[0]), float(found.log_loss[0])
        last = len(sizes) - 1
        outside = not log_size[0] < best < log_size[-1]
        if at in (0, last) or outside or not np.isfinite(best):
            side = "largest" if at == last or best >= log_size[-1] else "smallest"
            reason = f"the least loss is at the {side} size tried: the minimum lies beyond"
            out.append(Valley(at_flops, sizes, losses, None, None, 0.0, reason))
            continue
        sd = noise(losses) if callable(noise) else np.full(len(losses), float(noise))
        spread = 0.0
        if np.any(sd > 0):
            drawn = np.log(np.maximum(losses + sd * rng.normal(size=(draws, len(sizes))), 1e-9))
            moved = finder(log_size, drawn)
            inside = (moved.knot > 0) & (moved.knot < last) & np.isfinite(moved.log_size)
            kept = moved.log_size[inside]
            spread = float(np.std(kept)) if len(kept) > 2 else np.inf
            # The noise cannot place a minimum more finely than the sizes were tried.
            spread = max(spread, 0.1 * float(np.diff(log_size).min()))
        out.append(
            Valley(at_flops, sizes, losses, float(np.exp(best)), float(np.exp(least)), spread, "")
        )
    return tuple(out)
