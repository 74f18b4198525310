"""Losses, weights, intervals and clusters: what each choice must do to the answer."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.law import Parameter
from tests.laws.test_quick import quick_start


def test_float64_stays_inside(chinchilla_240: pd.DataFrame) -> None:
    fit(chinchilla_240, "chinchilla", Options(bootstrap=0))
    assert jnp.ones(1).dtype == jnp.float32


def test_four_rows_that_follow_no_law_are_fitted_without_a_warning() -> None:
    """Of weights pruned until nothing is left: the noise of the resamples is beyond all numbers."""
    density, loss = [0.504, 0.255, 0.131, 0.0693], [1.993, 2.338, 5.403, 5.549]
    table = pd.DataFrame({"density": density, "loss": loss})
    found = fit(table, "power_floor", Options(x="density", bootstrap=200))
    assert all(np.isfinite(value) for value in found.params.values())


@pytest.mark.slow
def test_methods_agree_where_theory_holds(chinchilla_240: pd.DataFrame) -> None:
    """On least squares of a large table all intervals are about as wide."""
    rng = np.random.default_rng(0)
    made = fit(chinchilla_240, "chinchilla", Options(objective="squares", bootstrap=0))
    loss = made.draws(chinchilla_240)[0] * np.exp(0.003 * rng.normal(size=240))
    table = chinchilla_240.assign(loss=loss)
    widths = {}
    for method in ("cases", "residual", "delta", "profile"):
        found = fit(table, "chinchilla", Options(objective="squares", method=method, bootstrap=300))
        low, high = np.array([found.intervals[n] for n in ("alpha", "beta")]).T
        assert (low < [found.params["alpha"], found.params["beta"]]).all()
        widths[method] = high - low
    for method, width in widths.items():
        np.testing.assert_allclose(width, widths["residual"], rtol=0.25, err_msg=method)


def test_checkpoints_of_one_run_are_one_cluster(chinchilla_240: pd.DataFrame) -> None:
    """Rows that repeat their run's luck tell no more than the run: clusters see it, rows do not."""
    rng = np.random.default_rng(1)
    found = fit(chinchilla_240, "chinchilla", Options(bootstrap=0), checks=False)
    run = np.arange(240) // 8
    luck = 0.005 * rng.normal(size=30)[run] + 0.0005 * rng.normal(size=240)
    at = chinchilla_240.assign(params=chinchilla_240.params.to_numpy()[8 * run])
    table = at.assign(loss=found.draws(at)[0] * np.exp(luck), run=run)

    def width(**options: str) -> float:
        one = fit(table, "chinchilla", Options(bootstrap=200, **options), checks=False)
        return one.intervals["alpha"][1] - one.intervals["alpha"][0]

    assert width(cluster="run") > 1.5 * width()
    said = fit(table, "chinchilla", Options(bootstrap=0)).flags
    assert any("several rows share a run" in flag for flag in said)


def test_asymmetric_loss_aims_at_a_quantile(chinchilla_240: pd.DataFrame) -> None:
    found = fit(
        chinchilla_240,
        "chinchilla",
        Options(objective="asymmetric", tilt=0.9, delta=1e-4, bootstrap=0),
    )
    below = np.mean(chinchilla_240.loss < found.draws(chinchilla_240)[0])
    assert below == pytest.approx(0.9, abs=0.03)


def test_weights_follow_the_standard_deviation(chinchilla_240: pd.DataFrame) -> None:
    """Rows of huge noise count for nothing; equal noise changes nothing."""
    spoilt = chinchilla_240.assign(sd=0.01)
    spoilt.loc[spoilt.index[::6], "loss"] *= 1.3
    spoilt.loc[spoilt.index[::6], "sd"] = 1e3
    kept = np.ones(240, bool)
    kept[::6] = False
    weighed = fit(spoilt, "chinchilla", Options(sd="sd", objective="squares", bootstrap=0))
    # weights are of the relative noise, so the sum runs over sd / loss
    apart = spoilt[kept]
    alone = fit(apart, "chinchilla", Options(sd="sd", objective="squares", bootstrap=0))
    for name, value in alone.params.items():
        assert weighed.params[name] == pytest.approx(value, rel=1e-4)


def test_the_sum_is_minimised_not_the_mean(chinchilla_240: pd.DataFrame) -> None:
    """The same rows twice: twice the objective, the same minimum."""
    twice = pd.concat([chinchilla_240.assign(copy=0), chinchilla_240.assign(copy=1)])
    one = fit(chinchilla_240, "chinchilla", Options(bootstrap=0), checks=False)
    two = fit(twice, "chinchilla", Options(bootstrap=0), checks=False)
    assert two.objective == pytest.approx(2 * one.objective, rel=1e-9)
    assert two.params["alpha"] == pytest.approx(one.params["alpha"], rel=1e-7)


def test_the_optimum_does_not_remember_its_start(chinchilla_240: pd.DataFrame) -> None:
    best = fit(chinchilla_240, "chinchilla", Options(bootstrap=0), checks=False)
    for scale in (0.3, 3.0):
        start = {name: value * scale for name, value in best.params.items()}
        found = fit(chinchilla_240, "chinchilla", Options(bootstrap=0), checks=False, start=start)
        assert found.objective == pytest.approx(best.objective, rel=1e-12)
        assert found.params["B"] == pytest.approx(best.params["B"], rel=1e-7)


def test_lack_of_fit_widens_the_interval() -> None:
    """Points off the law by ten times the seed noise: the interval knows, and says so."""
    table = quick_start(5, noise=0.0003)
    off = {1e5: 0.003, 3e5: -0.004, 1e6: 0.004, 3e6: -0.003, 1e7: 0.002}
    table["loss"] *= np.exp(table.params.map(off))
    found = fit(table, options=Options(bootstrap=300))
    assert found.noise.between_sd > 3 * (found.noise.replicate_sd or 0)
    assert any("miss the law" in flag for flag in found.flags)
    plain = fit(quick_start(5, noise=0.0003), options=Options(bootstrap=300))
    wide, narrow = (f.predict(4e7) for f in (found, plain))
    assert (wide.high - wide.low) > 4 * (narrow.high - narrow.low)


def test_what_is_not_identified_is_not_extrapolated() -> None:
    """Tokens in proportion to params: their exponents cannot be told apart when they are equal."""
    table = quick_start(7, noise=0.001).drop(columns="tokens")
    table["tokens"] = 20 * table.params
    found = fit(table, "chinchilla_tied", Options(bootstrap=40))
    assert {"A", "B"} <= set(found.unidentified)
    assert any("only a combination of" in flag for flag in found.flags)
    inside = found.predict({"params": 2e6, "tokens": 4e7})
    assert inside.low < inside.mean < inside.high
    with pytest.raises(UserError, match="is not extrapolated to"):
        found.predict({"params": 1e9, "tokens": 1e9})


def test_coordinates_invert() -> None:
    for link in ("log", "identity"):
        parameter = Parameter("p", link=link)  # type: ignore[arg-type]
        values = np.array([1e-8, 0.3, 1e12])
        np.testing.assert_allclose(parameter.value(parameter.coordinate(values)), values)
