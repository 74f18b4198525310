"""Time of the law fits against SciPy's L-BFGS-B doing the published procedure, as ratios.

    python benchmarks/law_fit.py [--starts=30] [--resamples=10]

On the 240 runs of Besiroglu et al. 2024: the published grid of 4,500 starts with finite
differences, and 4,000 bootstrap resamples with gradients, both timed on a sample and scaled up,
against `scaling.laws.fit` cold (a fresh process, imports and compilation counted) and warm. Then
the growth with rows and with starts. All numbers come from one run on one machine.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import minimize as scipy_minimize

ROOT = pathlib.Path(__file__).parent.parent
TABLE = ROOT / "tests" / "data" / "published" / "chinchilla_epoch.csv"
STARTS, RESAMPLES = 4500, 4000
COLD = """
import sys, time
began = time.monotonic()
sys.path.insert(0, {root!r})
from benchmarks.law_fit import runs
from scaling.laws import fit
found = fit(runs(), "chinchilla", bootstrap={bootstrap}, checks=False, seed=42)
print(time.monotonic() - began, found.objective)
"""


def runs() -> pd.DataFrame:
    """The 240 runs."""
    table = pd.read_csv(TABLE)
    table = table[table.loss <= np.sort(table.loss)[239]]
    params, flops = table["Model Size"].astype(float), table["Training FLOP"]
    columns = {"params": params, "tokens": flops / 6 / params, "loss": table.loss}
    return pd.DataFrame(columns)


class Published:
    """The published objective: log-sum-exp of (a - alpha log N, b - beta log D, e), Huber 1e-3."""

    def __init__(self, table: pd.DataFrame, delta: float = 1e-3):
        columns = (table[k].to_numpy(float) for k in ("params", "tokens", "loss"))
        self.log_params, self.log_tokens, self.log_loss = (np.log(c) for c in columns)
        self.delta = delta

    def __call__(self, x: np.ndarray) -> float:
        """The sum of Huber losses."""
        return self.with_gradient(x)[0]

    def with_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum and its gradient."""
        alpha, beta, e, a, b = x
        terms = np.stack(
            [a - alpha * self.log_params, b - beta * self.log_tokens, 0 * self.log_params + e]
        )
        top = terms.max(axis=0)
        parts = np.exp(terms - top)
        total = parts.sum(axis=0)
        residual = top + np.log(total) - self.log_loss
        inner = np.clip(residual, -self.delta, self.delta)
        value = float(np.sum(inner * (residual - inner / 2)))
        share = parts / total * inner
        gradient = np.array([
            -(share[0] * self.log_params).sum(), -(share[1] * self.log_tokens).sum(),
            share[2].sum(), share[0].sum(), share[1].sum(),
        ])  # fmt: skip
        return value, gradient


def published_starts() -> np.ndarray:
    """The grid of Hoffmann et al. 2022: alpha, beta, e, a, b."""
    halves, fives = np.arange(0, 2.5, 0.5), np.arange(0, 30, 5)
    return np.array(list(itertools.product(halves, halves, np.arange(-1, 1.5, 0.5), fives, fives)))


def timed(call: Callable[[], object], repeats: int = 1) -> tuple[float, object]:
    """Least wall seconds of some calls, and what the last returned."""
    best = np.inf
    for _ in range(repeats):
        began = time.monotonic()
        result = call()
        best = min(best, time.monotonic() - began)
    return best, result


def cold(bootstrap: int) -> tuple[float, float]:
    """Seconds and objective of a fit in a fresh process, without a compilation cache."""
    code = COLD.format(root=str(ROOT), bootstrap=bootstrap)
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    seconds, objective = out.stdout.split()
    return float(seconds), float(objective)


def main() -> None:
    """Print the ratios, then the growth, then all of it as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=30, help="of SciPy's 4,500, timed")
    parser.add_argument("--resamples", type=int, default=10, help="of SciPy's 4,000, timed")
    arguments = parser.parse_args()
    from scaling.laws import fit

    table, rng, told = runs(), np.random.default_rng(0), {}
    objective = Published(table)
    grid = published_starts()
    sample = grid[rng.choice(len(grid), arguments.starts, replace=False)]
    seconds, ends = timed(
        lambda: [scipy_minimize(objective, s, method="L-BFGS-B").fun for s in sample]
    )
    theirs = seconds / len(sample) * STARTS
    best_of_sample = min(ends)  # type: ignore[call-overload]
    print(f"SciPy, {STARTS} starts, finite differences: {theirs:.0f} s (from {len(sample)}), "
          f"best of the sample {best_of_sample:.12g}")  # fmt: skip

    def resample() -> None:
        rows = rng.integers(0, len(table), len(table))
        one = Published(table.iloc[rows])
        start = [0.3473, 0.3672, np.log(1.8172), np.log(477.8), np.log(2143.4)]
        # ftol of the objective's own size, 1e-3, would stop at once: both tolerances are tightened.
        tight = {"gtol": 1e-9, "ftol": 1e-15, "maxiter": 10_000, "maxfun": 100_000}
        scipy_minimize(one.with_gradient, start, jac=True, method="L-BFGS-B", options=tight)

    seconds, _ = timed(lambda: [resample() for _ in range(arguments.resamples)])
    theirs_boot = seconds / arguments.resamples * RESAMPLES
    print(f"SciPy, {RESAMPLES} resamples, gradients: {theirs_boot:.0f} s "
          f"(from {arguments.resamples})")  # fmt: skip

    cold_fit, cold_objective = cold(0)
    cold_boot, _ = cold(RESAMPLES)

    def ours(polished: int = 16, bootstrap: int = 0):  # type: ignore[no-untyped-def]
        return fit(
            table, "chinchilla", bootstrap=bootstrap, polished=polished, checks=False, seed=42
        )

    ours(), ours(81), ours(bootstrap=RESAMPLES)  # compile
    warm_fit, found = timed(ours, 10)
    warm_all, everything = timed(lambda: ours(81), 3)
    warm_boot, _ = timed(lambda: ours(bootstrap=RESAMPLES), 2)
    for name, one in (("default", found), ("all 81 to the end", everything)):
        print(f"ours, {name}: objective {one.objective:.12g}; {one.starts} starts compared, "  # type: ignore[attr-defined]
              f"{one.polished} minimised, {one.reached} of them reached it")  # type: ignore[attr-defined]  # fmt: skip
    ratios = {
        "fit cold": theirs / cold_fit, "fit warm": theirs / warm_fit,
        "fit warm, every start to the end": theirs / warm_all,
        "bootstrap cold": theirs_boot / cold_boot, "bootstrap warm": theirs_boot / warm_boot,
    }  # fmt: skip
    ours_seconds = (cold_fit, warm_fit, warm_all, cold_boot, warm_boot)
    for (name, ratio), s in zip(ratios.items(), ours_seconds, strict=True):
        print(f"{name}: {s:.3f} s, {ratio:.0f}x")
    told |= {
        "ratios": ratios, "warm_fit_ms": 1e3 * warm_fit, "scipy_s": theirs,
        "scipy_bootstrap_s": theirs_boot, "objective": cold_objective,
    }  # fmt: skip

    print("growth with rows (warm, one fit)")
    for rows in (240, 1000, 10_000, 100_000):
        at = rng.integers(0, len(table), rows)
        noise = np.exp(0.01 * rng.normal(size=(3, rows)))
        wide = table.iloc[at].reset_index(drop=True)
        wide = wide * noise.T
        run = lambda t=wide: fit(t, "chinchilla", bootstrap=0, checks=False)  # noqa: E731
        run()
        seconds, _ = timed(run)
        print(f"  {rows:7d} rows {seconds:.3f} s")
        told[f"rows_{rows}_s"] = seconds
    print("growth with starts (warm, all minimised to the end)")
    from scaling.laws.forms import CHINCHILLA
    from scaling.laws.minimize import Problem, minimize

    columns = {k: table[k].to_numpy(float) for k in ("params", "tokens")}
    logs = np.log(table.loss.to_numpy())
    problem = Problem(CHINCHILLA, CHINCHILLA.names, {}, columns, logs, np.ones(len(table)))
    values = np.stack([np.exp(grid[:, 2]), np.exp(grid[:, 3]), np.exp(grid[:, 4]), grid[:, 0],
                       grid[:, 1]], axis=1)  # fmt: skip
    order = rng.permutation(len(values))
    for starts in (16, 128, 1024, 4500):
        begun = problem.coordinates(values[order[:starts]])
        wide_delta = np.full(starts, 0.1)
        seconds, minima = timed(lambda b=begun, d=wide_delta: minimize(problem, b, first_delta=d))  # type: ignore[misc]
        best = minima.objective.min()  # type: ignore[attr-defined]
        share = np.mean(minima.objective <= best * (1 + 1e-6))  # type: ignore[attr-defined]
        print(f"  {starts:5d} published starts {seconds:.2f} s, {share:.0%} reached {best:.12g}")
        told[f"starts_{starts}_s"] = seconds
    print(json.dumps(told))


if __name__ == "__main__":
    main()
