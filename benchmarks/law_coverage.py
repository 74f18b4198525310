"""How often intervals hold the truth: sweeps simulated from known laws, fitted, and scored.

    python -m benchmarks.law_coverage [--simulations=300] [--designs=...] [--methods=...]

Prints, for every design and method, the share of simulations in which the 90 % interval holds the
exponent, the law's value at 10 and 100 times the largest budget, and a new run there; and how wide
the interval of a run is over that of the bootstrap alone, as a median: what doubt about the form
costs where the form is right.
`tests/laws/test_coverage.py` asks the same of the default method.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
import pandas as pd

from scaling.laws import LAWS, Options, fit
from scaling.laws.checks import METHODS

QUICK = {"E": 1.2, "A": 30.0, "alpha": 0.25}
JOINT = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}


@dataclass(frozen=True)
class Design:
    """A sweep: where its runs are, and how noisy."""

    law: str
    truth: dict[str, float]
    points: Callable[[], tuple[dict[str, np.ndarray], Callable[[float], dict[str, float]]]]
    noise: float  # standard deviation (or scale) of log loss
    tail: float | None = None  # degrees of freedom of Student noise; None: normal
    misfit: float = 0.0  # standard deviation of a point's true mean about the law


def quick_start() -> tuple[dict[str, np.ndarray], Callable[[float], dict[str, float]]]:
    """Five sizes, three seeds at the smaller ones, one at the largest; tokens in proportion."""
    params = np.repeat([1e5, 3e5, 1e6, 3e6, 1e7], [3, 3, 3, 3, 1])
    return {"x": params}, lambda times: {"x": 1e7 * times**0.5}


def isoflop_grid(
    budgets: int, sizes: int
) -> Callable[[], tuple[dict[str, np.ndarray], Callable[[float], dict[str, float]]]]:
    """Budgets a factor 4 apart, sizes up to 8 times below and above the optimum of each."""

    def optimum(flops: float) -> float:
        a, b = JOINT["alpha"], JOINT["beta"]
        ratio = a * JOINT["A"] / (b * JOINT["B"])
        return ratio ** (1 / (a + b)) * (flops / 6) ** (b / (a + b))

    def points() -> tuple[dict[str, np.ndarray], Callable[[float], dict[str, float]]]:
        flops = np.repeat(1e18 * 4.0 ** np.arange(budgets), sizes)
        spread = np.tile(np.geomspace(1 / 8, 8, sizes), budgets)
        params = np.array([optimum(f) for f in flops]) * spread

        def target(times: float) -> dict[str, float]:
            size = optimum(flops[-1] * times)
            return {"params": size, "tokens": flops[-1] * times / 6 / size}

        return {"params": params, "tokens": flops / 6 / params}, target

    return points


DESIGNS = {
    "quick start, 13 runs": Design("power_floor", QUICK, quick_start, 0.003),
    "quick start, law 0.3 % off": Design("power_floor", QUICK, quick_start, 0.002, misfit=0.003),
    "5 budgets x 7 sizes": Design("chinchilla", JOINT, isoflop_grid(5, 7), 0.005),
    "8 budgets x 15 sizes": Design("chinchilla", JOINT, isoflop_grid(8, 15), 0.01),
    "8 x 15, heavy tails": Design("chinchilla", JOINT, isoflop_grid(8, 15), 0.005, tail=3),
}


def coverage(
    design: Design, method: str = "auto", *, simulations: int = 300, bootstrap: int = 300,
    objective: str = "huber", first_seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Share of simulations whose 90 % interval holds the truth, by quantity; and the width of a
    run's interval, over the bootstrap's.
    """
    columns, target = design.points()
    law = LAWS[design.law]
    hits: dict[str, list[bool]] = {}
    wider: dict[str, list[float]] = {}

    def law_at(at: dict) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(law.predict(design.truth, at))

    def noise(rng: np.random.Generator, shape: int) -> np.ndarray:
        drawn = (
            rng.normal(size=shape) if design.tail is None else rng.standard_t(design.tail, shape)
        )
        return design.noise * drawn

    exact = law_at(columns)
    point = np.unique(np.stack(list(columns.values())), axis=1, return_inverse=True)[1].reshape(-1)
    for seed in range(first_seed, first_seed + simulations):
        rng = np.random.default_rng(seed)
        shift = design.misfit * rng.normal(size=point.max() + 1)
        loss = exact * np.exp(shift[point] + noise(rng, len(exact)))
        found = fit(
            pd.DataFrame(columns).assign(loss=loss),
            design.law,
            Options(x="x", method=method, seed=seed, bootstrap=bootstrap, objective=objective),
            checks=False,
        )
        for name in law.exponents:
            low, high = found.intervals[name]
            hits.setdefault(name, []).append(low <= design.truth[name] <= high)
        for times in (10, 100):
            at = target(times)
            value = float(law_at({k: np.array([v]) for k, v in at.items()})[0])
            change = design.misfit * rng.normal() + noise(rng, 1)[0]
            for kind, actual in (("mean", value), ("run", value * np.exp(change))):
                band = found.predict({k: [v] for k, v in at.items()}, kind=kind)
                inside = bool(band.low[0] <= actual <= band.high[0])
                hits.setdefault(f"{kind} at {times}x", []).append(inside)
            bare = replace(found, forecast=None).predict({k: [v] for k, v in at.items()})
            ratio = (band.high[0] - band.low[0]) / (bare.high[0] - bare.low[0])
            wider.setdefault(f"width at {times}x", []).append(ratio)
    shares = {name: float(np.mean(values)) for name, values in hits.items()}
    return shares | {name: float(np.median(values)) for name, values in wider.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    arguments = parser.parse_args()
    for name in arguments.designs:
        for method in arguments.methods:
            began = time.monotonic()
            shares = coverage(DESIGNS[name], method, simulations=arguments.simulations)
            cells = " | ".join(f"{k} {100 * v:.0f}" for k, v in shares.items())
            print(f"{name} | {method} | {cells} | {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
