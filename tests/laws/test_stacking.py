"""Several laws as one prediction."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.backtests import QUANTILES, Backtest
from scaling.laws.fit_command import fit_command
from scaling.laws.stacking import Stack, weights
from tests.laws.conftest import fit_request
from tests.laws.test_law_forecast import runs


def backtested(law: str, drawn: np.ndarray, measured: np.ndarray, *, cuts: int = 20) -> Backtest:
    """A backtest that drew so much [draws, rows]."""
    count = len(measured)
    rows = pd.DataFrame(
        {"below": np.arange(count) % cuts, "row": np.arange(count), "measured": measured}
    )
    return Backtest(law, "flops", 0.9, rows, (), drawn)


def normal(rng: np.random.Generator, middle: np.ndarray, sd: float) -> np.ndarray:
    return middle + sd * np.sort(rng.normal(size=(QUANTILES, len(middle))), axis=0)


def score(share: float, drawn: list[np.ndarray], measured: np.ndarray) -> float:
    """CRPS of a mixture of two, by its own definition: the integral of a squared difference."""
    grid = np.linspace(1.0, 4.0, 601)
    above = (drawn[0][:, :, None] <= grid).mean(axis=0) * share
    above = above + (drawn[1][:, :, None] <= grid).mean(axis=0) * (1 - share)
    gap = (above - (grid >= measured[:, None])) ** 2
    return float((gap.sum(axis=1) * (grid[1] - grid[0]) / measured).mean())


def test_weights_minimise_the_score_of_the_mixture() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(2, 3, size=100)
    measured = truth + 0.1 * rng.normal(size=100)
    drawn = [normal(rng, truth + 0.1, 0.08), normal(rng, truth - 0.2, 0.08)]
    found = weights({n: backtested(n, d, measured) for n, d in zip("ab", drawn, strict=True)})
    shares = np.linspace(0, 1, 51)
    best = shares[np.argmin([score(s, drawn, measured) for s in shares])]
    assert 0.2 < best < 0.95  # both are needed
    # The belief in equal weights, one cut against twenty, moves it by little.
    assert found["a"] == pytest.approx(best, abs=0.04)
    assert sum(found.values()) == pytest.approx(1)


def test_few_cuts_leave_the_weights_near_equal() -> None:
    rng = np.random.default_rng(1)
    measured = rng.uniform(2, 3, size=60)
    drawn = {"right": normal(rng, measured, 0.1), "off": normal(rng, measured + 0.15, 0.1)}

    def share(cuts: int) -> float:
        return weights({n: backtested(n, d, measured, cuts=cuts) for n, d in drawn.items()})[
            "right"
        ]

    assert 0.5 < share(1) < share(4) < share(30)
    assert share(30) > 0.9
    same = weights({n: backtested(n, drawn["right"], measured) for n in "abc"})
    assert list(same.values()) == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_only_runs_that_all_laws_predicted_count() -> None:
    rng = np.random.default_rng(2)
    measured = rng.uniform(2, 3, size=40)
    one, two = normal(rng, measured, 0.1), normal(rng, measured + 0.1, 0.1)
    whole = {"a": backtested("a", one, measured), "b": backtested("b", two, measured)}
    part = whole["b"]
    kept = np.sort(rng.permutation(40)[:25])[::-1]  # fewer, and in another order
    fewer = Backtest("b", "flops", 0.9, part.rows.iloc[kept], (), part.drawn[:, kept])
    both = {"a": backtested("a", one[:, np.sort(kept)], measured[np.sort(kept)])}
    both["a"].rows[["below", "row"]] = whole["a"].rows.iloc[np.sort(kept)][["below", "row"]].values
    expected = weights({"a": both["a"], "b": fewer})
    assert weights({"a": whole["a"], "b": fewer}) == pytest.approx(expected, abs=1e-6)
    none = backtested("b", two, measured)
    none.rows["below"] += 100
    with pytest.raises(UserError, match="no run was predicted by all of a, b"):
        weights({"a": whole["a"], "b": none})


@pytest.mark.slow
def test_a_stack_predicts_between_its_laws() -> None:
    few = Options(bootstrap=60)
    fits = tuple(fit(runs(), law, few) for law in ("chinchilla", "kaplan"))
    at = {"params": np.array([3e9, 1e10]), "tokens": np.array([1e11, 2e11])}
    one, two, both = fits[0].predict(at), fits[1].predict(at), Stack(fits, (0.7, 0.3)).predict(at)
    np.testing.assert_allclose(both.mean, 0.7 * one.mean + 0.3 * two.mean)
    assert (both.high >= np.minimum(one.high, two.high)).all()
    assert (both.high <= np.maximum(one.high, two.high) * 1.001).all()
    alone = Stack(fits[:1], (1.0,)).predict(at)
    # Draws of draws: 4,000 leave an end of the interval to a few percent of its width.
    np.testing.assert_allclose(alone.low, one.low, atol=0.08 * (one.high - one.low).max())


@pytest.mark.slow
def test_the_command_averages_and_keeps_it(tmp_path) -> None:
    table, out = tmp_path / "runs.csv", tmp_path / "fit"
    runs().to_csv(table, index=False)
    asked = {"table": str(table), "law": "chinchilla", "average": True, "bootstrap": 40}
    with pytest.raises(UserError, match="--average is of several laws"):
        fit_command(fit_request(**asked))
    planned = {"params": 3e9, "tokens": 1e11}
    made = fit_command(fit_request(**asked, compare="kaplan", preregister=planned, out=str(out)))
    assert "average of laws, weighed by their backtests: chinchilla" in made.text
    stack = Stack.from_json((out / "stack.json").read_text())
    again = stack.predict({k: np.array([v]) for k, v in planned.items()})
    kept = json.loads((out / "prediction.json").read_text())
    assert kept["laws"] == pytest.approx(
        dict(zip([f.law for f in stack.fits], stack.weights, strict=True))
    )
    assert [kept["low"], kept["high"]] == pytest.approx([again.low[0], again.high[0]])
    with pytest.raises(UserError, match=r"no stack\.json"):
        Stack.from_json((out / "fit.json").read_text())
