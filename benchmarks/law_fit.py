"""Time of the law fits against SciPy's L-BFGS-B doing the published procedure, as ratios.

    python -m benchmarks.law_fit [--starts=30] [--resamples=10]

On the 240 runs of Besiroglu et al. 2024: the published grid of 4,500 starts with finite
differences, and 4,000 bootstrap resamples with and without gradients, timed on a sample and scaled
up, half of it before ours and half after, against `scaling.laws.fit` cold (a fresh process, imports
and compilation counted) and warm. Then the growth with rows and with starts. All numbers come from
one run on one machine.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

# On arrays of 240 rows threads of the linear algebra only wait for each other: one is SciPy's best.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
import pandas as pd
from scipy.optimize import minimize as scipy_minimize
from scipy.special import logsumexp

T = TypeVar("T")
ROOT = pathlib.Path(__file__).parent.parent
TABLE = ROOT / "tests" / "data" / "published" / "chinchilla_epoch.csv"
STARTS, RESAMPLES = 4500, 4000
COLD = """
import sys, time
began = time.monotonic()
sys.path.insert(0, {root!r})
import pandas as pd
from scaling.laws import Options, fit
options = Options(bootstrap={bootstrap}, seed=42)
found = fit(pd.read_csv({table!r}), "chinchilla", options, checks=False)
print(time.monotonic() - began, time.process_time(), found.objective)
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
        """The sum of Huber losses, with SciPy's logsumexp as the published analysis has it."""
        alpha, beta, e, a, b = x
        size, data = a - alpha * self.log_params, b - beta * self.log_tokens
        predicted = logsumexp(np.stack([size, data, np.full_like(size, e)]), axis=0)
        gap = self.log_loss - predicted
        far = self.delta * (np.abs(gap) - 0.5 * self.delta)
        return float(np.sum(np.where(np.abs(gap) < self.delta, 0.5 * gap**2, far)))

    def with_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The same sum and its gradient by hand, about three times faster than one call above."""
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


def timed(call: Callable[[], T], repeats: int = 1) -> tuple[np.ndarray, T]:
    """Least wall and CPU seconds of some calls [2], and what the last returned."""
    best = np.full(2, np.inf)
    for _ in range(repeats):
        began = np.array([time.monotonic(), time.process_time()])
        result = call()
        best = np.minimum(best, np.array([time.monotonic(), time.process_time()]) - began)
    return best, result


def cold(bootstrap: int) -> tuple[np.ndarray, float]:
    """Wall and CPU seconds [2] and objective of a fit in a fresh process, without a compilation
    cache, imports counted.
    """
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        runs().to_csv(file.name, index=False)
        code = COLD.format(root=str(ROOT), table=file.name, bootstrap=bootstrap)
        out = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
        )
    wall, cpu, objective = map(float, out.stdout.split())
    return np.array([wall, cpu]), objective


def main() -> None:
    """Print the ratios, then the growth, then all of it as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=30, help="of SciPy's 4,500, timed")
    parser.add_argument("--resamples", type=int, default=10, help="of SciPy's 4,000, timed")
    arguments = parser.parse_args()
    from scaling.laws import Fit, Options, fit

    table, rng = runs(), np.random.default_rng(0)
    told: dict[str, object] = {}
    objective = Published(table)
    grid = published_starts()
    sample = grid[rng.choice(len(grid), arguments.starts, replace=False)]

    def start(at: np.ndarray) -> float:
        return float(scipy_minimize(objective, at, method="L-BFGS-B").fun)

    def resample(rows: np.ndarray, gradient: bool, begin: list[np.ndarray]) -> None:
        one = Published(table.iloc[rows])
        # The default ftol, of an objective of 1e-3, would stop beside the start.
        tight = {"gtol": 1e-9, "ftol": 1e-15, "maxiter": 10_000, "maxfun": 100_000}
        for at in begin:
            if gradient:
                scipy_minimize(one.with_gradient, at, jac=True, method="L-BFGS-B", options=tight)
            else:
                scipy_minimize(one, at, method="L-BFGS-B")

    near = np.array([0.3473, 0.3672, np.log(1.8172), np.log(477.8), np.log(2143.4)])
    other = np.array([0.5, 0.5, 0.5, 10.0, 10.0])
    drawn = rng.integers(0, len(table), (arguments.resamples, len(table)))
    procedures = {
        "2 starts, finite differences": (False, [near, other]),
        "2 starts, gradients by hand": (True, [near, other]),
        "1 start, gradients by hand": (True, [near]),
    }

    def baselines(half: int) -> dict[str, np.ndarray]:
        """Wall and CPU seconds of SciPy [2], from every other start and resample."""
        part = sample[half::2]
        spent, ends = timed(lambda: [start(at) for at in part])
        print(f"SciPy: best of {len(part)} starts {min(ends):.12g}")
        out = {"starts": spent / len(part) * STARTS}
        for name, how in procedures.items():
            rows = drawn[half::2]

            def several(rows: np.ndarray = rows, how: tuple = how) -> None:
                for one in rows:
                    resample(one, *how)

            spent, _ = timed(several)
            out[name] = spent / len(rows) * RESAMPLES
        return out

    # Half of SciPy's sample before ours and half after: what else runs on the machine hits both.
    before = baselines(0)
    cold_fit, cold_objective = cold(0)
    cold_boot, _ = cold(RESAMPLES)

    def ours(polished: int = 16, bootstrap: int = 0) -> Fit:
        options = Options(bootstrap=bootstrap, seed=42)
        return fit(table, "chinchilla", options, polished=polished, checks=False)

    ours(), ours(81), ours(bootstrap=RESAMPLES)  # compile
    warm_fit, found = timed(ours, 10)
    warm_all, everything = timed(lambda: ours(81), 3)
    warm_boot, _ = timed(lambda: ours(bootstrap=RESAMPLES), 2)
    after = baselines(1)
    scipy = {name: (before[name] + after[name]) / 2 for name in before}
    for name, spent in scipy.items():
        print(f"SciPy, {name}: {spent[0]:.0f} s wall, {spent[1]:.0f} s CPU")
    theirs, boots = scipy["starts"], {name: scipy[name] for name in procedures}
    for name, one in (("default", found), ("all 81 to the end", everything)):
        print(f"ours, {name}: objective {one.objective:.12g}; {one.starts} starts compared, "
              f"{one.polished} minimised, {one.reached} of them reached it")  # fmt: skip
    ratios: dict[str, list[float]] = {}

    def tell(name: str, baseline: np.ndarray, spent: np.ndarray) -> None:
        ratios[name] = [float(r) for r in baseline / spent]
        print(f"{name}: {spent[0]:.3f} s wall, {spent[1]:.3f} s CPU; "
              f"{ratios[name][0]:.0f}x by wall, {ratios[name][1]:.0f}x by CPU")  # fmt: skip

    tell("fit, cold", theirs, cold_fit)
    tell("fit, warm", theirs, warm_fit)
    tell("fit, warm, all 81 starts to the end", theirs, warm_all)
    for name, baseline in boots.items():
        tell(f"bootstrap, cold, against {name}", baseline, cold_boot)
        tell(f"bootstrap, warm, against {name}", baseline, warm_boot)
    told |= {
        "ratios_wall_cpu": ratios, "warm_fit_ms": 1e3 * warm_fit[0], "scipy_s": list(theirs),
        "scipy_bootstrap_s": {k: list(v) for k, v in boots.items()}, "objective": cold_objective,
    }  # fmt: skip

    print("growth with rows (warm, one fit)")
    for rows in (240, 1000, 10_000, 100_000):
        at = rng.integers(0, len(table), rows)
        noise = np.exp(0.01 * rng.normal(size=(3, rows)))
        wide = table.iloc[at].reset_index(drop=True)
        wide = wide * noise.T
        one_fit = functools.partial(fit, wide, "chinchilla", Options(bootstrap=0), checks=False)
        one_fit()
        spent, _ = timed(one_fit)
        print(f"  {rows:7d} rows {spent[0]:.3f} s wall, {spent[1]:.3f} s CPU")
        told[f"rows_{rows}_s"] = list(spent)
    print("growth with starts (warm, all minimised to the end)")
    from scaling.laws.forms import CHINCHILLA
    from scaling.laws.minimize import minimize
    from scaling.laws.problem import Problem

    columns = {k: table[k].to_numpy(float) for k in ("params", "tokens")}
    logs = np.log(table.loss.to_numpy())
    problem = Problem(CHINCHILLA, CHINCHILLA.names, {}, columns, logs, np.ones(len(table)))
    values = np.stack([np.exp(grid[:, 2]), np.exp(grid[:, 3]), np.exp(grid[:, 4]), grid[:, 0],
                       grid[:, 1]], axis=1)  # fmt: skip
    order = rng.permutation(len(values))
    for starts in (16, 128, 1024, 4500):
        begun = problem.coordinates(values[order[:starts]])
        wide_delta = np.full(starts, 0.1)
        spent, minima = timed(functools.partial(minimize, problem, begun, first_delta=wide_delta))
        best = minima.objective.min()
        share = np.mean(minima.objective <= best * (1 + 1e-6))
        print(f"  {starts:5d} published starts {spent[0]:.2f} s wall, {spent[1]:.2f} s CPU, "
              f"{share:.0%} reached {best:.12g}")  # fmt: skip
        told[f"starts_{starts}_s"] = list(spent)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
