"""Compute-optimal size and data three ways: envelope of curves, isoFLOP minima, parametric fit.

Takes a table with params, loss and FLOPs (or tokens); gives exponents of params* and of the amount
of data* against compute, with intervals, side by side. Called by `fit_command.py` and the figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws import LAWS
from scaling.laws.fitting import fit
from scaling.laws.measures import amounts_of
from scaling.laws.options import Options
from scaling.laws.result import Fit
from scaling.laws.rows import clusters, numbers
from scaling.laws.shapes import FLOPS_PER
from scaling.laws.valleys import Valley, valleys


@dataclass(frozen=True)
class Optimum:
    """size* = scale * flops^exponent."""

    approach: str
    quantity: str  # params, or the column of the amount of data
    exponent: float
    low: float
    high: float
    scale: float
    level: float
    points: int  # budgets or runs behind it
    notes: tuple[str, ...]
    valleys: tuple[Valley, ...] = ()
    samples: np.ndarray | None = None  # [draws, 2]: exponent, log scale

    def at(self, flops: float) -> tuple[float, float, float]:
        """size* at a budget, and its interval."""
        value = self.scale * flops**self.exponent
        if self.samples is None or not len(self.samples):
            return value, np.nan, np.nan
        drawn = np.exp(self.samples[:, 1] + self.samples[:, 0] * np.log(flops))
        low, high = np.nanquantile(drawn, [(1 - self.level) / 2, (1 + self.level) / 2])
        return value, float(low), float(high)


def _line(
    log_flops: np.ndarray, log_size: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept by weighted least squares, over the last axis."""
    total = weight.sum(-1)
    mean_x = (weight * log_flops).sum(-1) / total
    mean_y = (weight * log_size).sum(-1) / total
    x = log_flops - mean_x[..., None]
    slope = (weight * x * log_size).sum(-1) / (weight * x * x).sum(-1)
    return slope, mean_y - slope * mean_x


def isoflop(
    table: pd.DataFrame,
    *,
    quantity: str = "params",
    flops: str = "flops",
    loss: str = "loss",
    method: str = "akima",
    noise: Callable[[np.ndarray], np.ndarray] | float = 0.0,
    level: float = 0.9,
    draws: int = 1000,
    seed: int = 0,
) -> Optimum:
    """Approach 2: the power law through the minima of the isoFLOP valleys.

    Weighted least squares of log size* on log FLOPs, weights 1/sd^2 when noise is given. The
    interval resamples the residuals of that line (scale from its degrees of freedom), and with
    noise the larger of that and the noise itself.

    Raises UserError when fewer than three budgets have an interior minimum.
    """
    c, s, y = (numbers(table, k) for k in (flops, quantity, loss))
    good = np.isfinite(c) & np.isfinite(s) & np.isfinite(y) & (c > 0) & (s > 0) & (y > 0)
    found = valleys(c[good], s[good], y[good], method=method, noise=noise, draws=draws, seed=seed)
    kept = [v for v in found if v.best_size is not None]
    refused = [v for v in found if v.best_size is None]
    notes = []
    for reason in dict.fromkeys(v.refused for v in refused):
        places = [f"{v.flops:.3g}" for v in refused if v.refused == reason]
        shown = ", ".join(places[:6]) + (", ..." if len(places) > 6 else "")
        notes.append(f"{len(places)} budgets refused ({shown}): {reason}")
    if len(kept) < 3:
        raise UserError(
            f"isoflop: only {len(kept)} of {len(found)} budgets have a minimum inside the sizes "
            f"tried; {'; '.join(notes)}"
        )
    x = np.log(np.array([v.flops for v in kept]))
    target = np.log(np.array([v.best_size for v in kept], float))
    sd = np.array([v.sd_log_size for v in kept])
    finite = np.isfinite(sd)
    known = bool(np.any(sd[finite] > 0))
    weight = np.where(finite, 1 / np.maximum(sd, 1e-9) ** 2, 0.0) if known else np.ones(len(x))
    slope, intercept = _line(x, target, weight)
    residual = target - intercept - slope * x
    dof = len(x) - 2
    rng = np.random.default_rng(seed + 1)
    chi = np.sqrt(dof / rng.chisquare(dof, (draws, 1))) if dof else np.ones((draws, 1))
    scale = np.sqrt(np.sum(weight * residual**2) / max(dof, 1) / weight.clip(1e-300))
    used = np.maximum(scale * chi, np.where(finite, sd, 0.0)) if known else scale * chi
    moved = intercept + slope * x + np.where(weight > 0, used, 0) * rng.normal(size=(draws, len(x)))
    slopes, intercepts = _line(x[None], moved, weight[None])
    low, high = np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    return Optimum(
        f"isoFLOP minima ({method})", quantity, float(slope), float(low), float(high),
        float(np.exp(intercept)), level, len(kept), tuple(notes), found,
        np.stack([slopes, intercepts], axis=1),
    )  # fmt: skip


def envelope(
    table: pd.DataFrame,
    *,
    quantity: str = "params",
    flops: str = "flops",
    loss: str = "loss",
    run: str | None = None,
    level: float = 0.9,
    bins: int = 60,
    draws: int = 500,
    seed: int = 0,
) -> Optimum:
    """Approach 1: at each of many budgets, the run whose (interpolated) curve is lowest.

    The table holds checkpoints; `run` names the column that tells runs apart (None: one curve a
    size). Intervals resample whole curves. Budgets at which the smallest or largest size wins are
    left out, as in `valleys`.
    """
    c, s, y = (numbers(table, k) for k in (flops, quantity, loss))
    label = clusters(table, run) if run else numbers(table, "params")
    curves = []
    for name in np.unique(label):
        rows = (label == name) & np.isfinite(c) & np.isfinite(y)
        order = np.argsort(c[rows])
        if rows.sum() >= 2:
            curves.append((np.log(c[rows][order]), np.log(s[rows][order]), y[rows][order]))
    if len(curves) < 3:
        raise UserError(
            f"envelope: {len(curves)} curves of two or more checkpoints; at least three are needed"
        )
    first, last = min(k[0][0] for k in curves), max(k[0][-1] for k in curves)
    grid = np.linspace(first, last, bins)
    losses = np.stack([np.interp(grid, k[0], k[2], left=np.inf, right=np.inf) for k in curves])
    sizes = np.stack([np.interp(grid, k[0], k[1]) for k in curves])
    typical = np.array([k[1].mean() for k in curves])

    def line(chosen: np.ndarray) -> tuple[float, float, int]:
        part = losses[chosen]
        seen = np.isfinite(part).sum(axis=0) >= 3
        at = np.argmin(part, axis=0)
        winner = chosen[at]
        edge = np.isin(typical[winner], [typical[chosen].min(), typical[chosen].max()])
        edge = edge & (quantity == "params")
        use = seen & ~edge
        if len(np.unique(winner[use])) < 2:
            return np.nan, np.nan, int(use.sum())
        slope, intercept = np.polyfit(grid[use], sizes[winner, np.arange(bins)][use], 1)
        return slope, intercept, int(use.sum())

    slope, intercept, used = line(np.arange(len(curves)))
    if not np.isfinite(slope):
        raise UserError(
            "envelope: the lowest curve is always that of the smallest or the largest size, so the "
            "optimum lies outside the sizes tried"
        )
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [line(np.unique(rng.integers(0, len(curves), len(curves))))[:2] for _ in range(draws)]
    )
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    low, high = np.quantile(drawn[:, 0], [(1 - level) / 2, (1 + level) / 2])
    note = "checkpoints of a decayed schedule are not finished runs: the envelope is then biased"
    return Optimum(
        "envelope of curves", quantity, slope, float(low), float(high), float(np.exp(intercept)),
        level, used, (note,), samples=drawn,
    )  # fmt: skip


def parametric(fitted: Fit, quantity: str = "params", *, flops_per: float = FLOPS_PER) -> Optimum:
    """Approach 3: from a fitted chinchilla law, with FLOPs = flops_per * params * units of data."""
    if fitted.law not in ("chinchilla", "chinchilla_tied"):
        raise UserError(f"the optimum in closed form needs a chinchilla law, not {fitted.law}")

    def line(p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        alpha, beta = p["alpha"], p.get("beta", p["alpha"])
        ratio = np.log(alpha * p["A"] / (beta * p["B"])) / (alpha + beta)
        a = beta / (alpha + beta) if quantity == "params" else alpha / (alpha + beta)
        return a, (ratio if quantity == "params" else -ratio) - a * np.log(flops_per)

    best = line({k: np.asarray(v) for k, v in fitted.params.items()})
    given = {k: np.full(len(fitted.samples), v) for k, v in fitted.params.items()}
    drawn = given | {n: fitted.samples[:, i] for i, n in enumerate(fitted.free)}
    with np.errstate(all="ignore"):
        samples = np.stack(line(drawn), axis=1)
    samples = samples[np.isfinite(samples).all(axis=1)]
    tails = [(1 - fitted.level) / 2, (1 + fitted.level) / 2]
    low, high = np.quantile(samples[:, 0], tails) if len(samples) else (np.nan, np.nan)
    return Optimum(
        "parametric fit", quantity, float(best[0]), float(low), float(high),
        float(np.exp(best[1])), fitted.level, fitted.n, fitted.flags, samples=samples,
    )  # fmt: skip


def side_by_side(
    table: pd.DataFrame, *, approaches: Sequence[str] = ("1", "2", "2p", "3"), level: float = 0.9,
    run: str | None = None, noise: Callable[[np.ndarray], np.ndarray] | float = 0.0,
    loss: str = "loss", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Exponents of params* and of the data* by every approach that the table allows, with intervals
    and the reason where one does not apply. Of tokens, FLOPs = 6 x params x tokens where the table
    leaves either out; of other units it must have both.
    """
    table, flops_per = table.copy(), FLOPS_PER
    data = amounts_of(LAWS["chinchilla"], table).get("tokens", "tokens")
    if data == "tokens":
        if "flops" not in table.columns:
            table["flops"] = FLOPS_PER * numbers(table, "params") * numbers(table, "tokens")
        if "tokens" not in table.columns:
            table["tokens"] = numbers(table, "flops") / (FLOPS_PER * numbers(table, "params"))
    else:
        spent = numbers(table, "flops") / numbers(table, "params") / numbers(table, data)
        flops_per = float(np.exp(np.nanmean(np.log(spent))))
    rows: list[dict[str, Any]] = []
    fitted, options = None, Options(loss=loss, level=level, cluster=run)
    for quantity in ("params", data):
        common: dict[str, Any] = {"quantity": quantity, "loss": loss, "level": level, "seed": seed}
        for approach in approaches:
            try:
                if approach == "1":
                    found = envelope(table, run=run, **common)
                elif approach in ("2", "2p"):
                    method = "akima" if approach == "2" else "parabola"
                    found = isoflop(table, method=method, noise=noise, **common)
                else:
                    if fitted is None:
                        fitted = fit(table, "chinchilla", options)
                    found = parametric(fitted, quantity, flops_per=flops_per)
            except UserError as e:
                rows.append({"approach": approach, "quantity": quantity, "note": str(e)})
                continue
            rows.append({
                "approach": found.approach, "quantity": quantity, "exponent": found.exponent,
                "low": found.low, "high": found.high, "scale": found.scale,
                "points": found.points, "note": "; ".join(found.notes),
            })  # fmt: skip
    return pd.DataFrame(rows)
