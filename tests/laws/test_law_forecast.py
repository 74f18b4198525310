"""Predictions that know that their form may be wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import LAWS, Fit, Options, fit
from scaling.laws.chain import Chain
from scaling.laws.curve import Curve, Known
from scaling.laws.discrepancy import Basis, Explainer, Rows, Sizes, growth_of, matern
from scaling.laws.fit_command import fit_command
from scaling.laws.forecast import forecast, toward
from scaling.laws.problem import Problem
from tests.laws.conftest import fit_request

TRUTH = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}


def runs(bend: float = 0.0, noise: float = 0.003, seed: int = 0) -> pd.DataFrame:
    """Six budgets by eight sizes; `bend` is a departure from the law, quadratic in log FLOPs."""
    rng = np.random.default_rng(seed)
    flops = np.repeat(1e18 * 4.0 ** np.arange(6), 8)
    params = (flops / 6 / 20) ** 0.5 * np.tile(np.geomspace(0.2, 5, 8), 6)
    tokens = flops / 6 / params
    loss = TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens**-0.37
    off = bend * (np.log(flops / flops[0]) / 4) ** 2 + noise * rng.normal(size=len(flops))
    columns = {"params": params, "tokens": tokens, "flops": flops}
    return pd.DataFrame(columns).assign(loss=loss * np.exp(off))


def test_the_basis_has_the_correlations_of_the_process() -> None:
    """Exactly so between its pivots; elsewhere it leaves out some variance and adds none."""
    place = np.random.default_rng(0).uniform(0, 8, (60, 2))
    basis = Basis(place, 4.0)
    shape = basis(basis.pivots)
    assert shape.shape == (40, 40)
    related = matern(basis.pivots, basis.pivots, 4.0)
    np.testing.assert_allclose(shape @ shape.T, related, atol=1e-6)
    assert ((basis(place) ** 2).sum(axis=1) <= 1 + 1e-6).all()


def explained(table: pd.DataFrame) -> tuple[Explainer, Rows, np.ndarray]:
    """Of the law in all rows of a table."""
    columns = {k: table[k].to_numpy(float) for k in ("params", "tokens")}
    target = np.log(table.loss.to_numpy(float))
    rows = Rows(np.log(np.stack(list(columns.values()), axis=1)), columns, target,
                np.ones(len(target)))  # fmt: skip
    law = LAWS["chinchilla"]
    problem = Problem(law, law.names, {}, columns, target, rows.weight)
    return Explainer(Curve(problem), rows, TRUTH, Sizes()), rows, target


def test_a_bend_is_seen_and_a_straight_law_is_believed() -> None:
    """The evidence tells a law that bends by 3 % over the table from one that is right."""
    found = {}
    for bend in (0.0, 0.02):
        explainer, rows, _ = explained(runs(bend))
        (known,) = explainer.explain([np.ones(len(rows.target), bool)])
        found[bend] = known.evidence[1:].max() - known.evidence[0]
    assert found[0.0] < 0.5
    assert found[0.02] > 3


def test_doubt_about_the_form_grows_away_from_the_runs() -> None:
    explainer, rows, _ = explained(runs(0.02))
    (known,) = explainer.explain([np.ones(len(rows.target), bool)])
    times = np.array([1.0, 3.0, 10.0, 100.0, 1e4, 1e12])
    largest = np.log(runs()[["params", "tokens"]].to_numpy())[-4]
    place = largest + np.log(times)[:, None] / 2
    columns = {"params": np.exp(place[:, 0]), "tokens": np.exp(place[:, 1])}
    told = explainer.tell(known, Rows(place, columns, np.zeros(6), np.ones(6)))
    for account in range(1, len(known.evidence)):
        assert (np.diff(told.form[account]) > 0).all()
        # Far from all runs nothing is known of the discrepancy but its size.
        assert told.form[account, -1] == pytest.approx(known.departure[account] ** 2, rel=1e-2)
    assert (told.form[0] == 0).all()


def test_runs_share_the_doubt_that_each_of_them_has() -> None:
    """Covariances have on their diagonal what is told of each run; near runs share most of it."""
    explainer, rows, _ = explained(runs(0.02))
    (known,) = explainer.explain([np.ones(len(rows.target), bool)])
    place = rows.place[-1] + np.array([[0.0, 1.0], [2.0, 4.0], [2.0, 4.5]])
    columns = {"params": np.exp(place[:, 0]), "tokens": np.exp(place[:, 1])}
    at = Rows(place, columns, np.zeros(3), np.ones(3))
    told, covariance = explainer.tell(known, at), explainer.covary(known, at)
    sd = np.sqrt(told.parameters + told.form + told.noise)
    np.testing.assert_allclose(np.sqrt(np.einsum("krr->kr", covariance)), sd, rtol=1e-5)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    shared = covariance / (sd[:, :, None] * sd[:, None, :])
    assert (shared[1:, 1, 2] > shared[1:, 0, 2]).all()


def test_the_law_alone_is_least_squares_with_what_is_known_before() -> None:
    """Coordinates of the account without a discrepancy: no other point is more probable."""
    explainer, rows, target = explained(runs())
    (known,) = explainer.explain([np.ones(len(target), bool)])
    curve = explainer.curve
    _, middle, spread = curve.begin(TRUTH, np.exp(target), Known())
    free, noise = len(curve.free), known.noise[0]

    def density(at: np.ndarray) -> float:
        value = curve(at[None], rows.columns)[0][0]
        share = np.maximum(1 - np.exp(at[0] - value), 0.02) / known.typical
        variance = noise**2 * np.clip(share, 0.1, 10) ** (2 * known.growth)
        tails = np.log1p((target - value) ** 2 / 4 / variance).sum() * 5
        return tails + (((at - middle) / spread) ** 2).sum()

    best = known.at[0, :free]
    rng = np.random.default_rng(1)
    near = [density(best + 0.01 * rng.normal(size=free)) for _ in range(20)]
    # The variance belongs to the fit, so that it does not follow the point by more than this.
    assert density(best) < min(near) + 1e-3


def test_errors_are_those_of_the_direction_in_which_a_run_lies() -> None:
    """Of params alone, of tokens alone, of all at once, and of what lies among the runs."""
    fitted = np.log(runs()[["params", "tokens"]].to_numpy())
    most = fitted.max(axis=0)
    places = most + np.array([[2.0, -9.0], [-9.0, 2.0], [2.0, 2.0], [-4.0, -4.0]])
    share = toward(places, fitted)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    np.testing.assert_allclose(share[:2, :2], np.eye(2), atol=1e-3)
    np.testing.assert_allclose(share[2:, 2], 1, atol=1e-3)
    assert toward(places[:, :1], fitted[:, :1]).tolist() == [[1.0]] * 4


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5])
def test_noise_follows_the_reducible_loss(power: float) -> None:
    rng = np.random.default_rng(2)
    share = rng.uniform(-2, 1, 2000)
    gap = np.abs(np.exp(power * share) * 0.01 * rng.normal(size=2000))
    assert growth_of(gap, share, Sizes()) == power


def test_intervals_are_the_same_after_json_and_say_what_they_hold() -> None:
    found = fit(runs(0.02), "chinchilla", Options(bootstrap=60), checks=False)
    again = Fit.from_json(found.to_json())
    at = {"params": [1e10, 3e10], "tokens": [2e11, 6e11]}
    for kind in ("run", "mean"):
        one, two = found.predict(at, kind=kind), again.predict(at, kind=kind)
        np.testing.assert_allclose(one.low, two.low, rtol=1e-6)
        np.testing.assert_allclose(one.mean, two.mean, rtol=1e-6)
    assert again.forecast is not None
    assert again.forecast.share.sum() == pytest.approx(1)
    line = found.holds()
    assert line in str(found)
    shares = [int(word[:-2]) for word in line.replace(";", ",").split() if word.endswith("%,")]
    assert sum(shares[-3:]) == pytest.approx(100, abs=2)


def test_a_form_that_is_wrong_is_predicted_better_and_with_more_doubt() -> None:
    """Twenty times beyond runs that bend away from the law."""
    params, tokens, bend = 2e10, 4e11, 0.02
    law = TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens**-0.37
    truth = law * np.exp(bend * (np.log(6 * params * tokens / 1e18) / 4) ** 2)
    found = fit(runs(bend), "chinchilla", Options(bootstrap=100), checks=False)
    at = {"params": [params], "tokens": [tokens]}
    whole, alone = (one.predict(at) for one in (found, replace(found, forecast=None)))
    assert abs(whole.mean[0] - truth) < abs(alone.mean[0] - truth)
    assert whole.high[0] - whole.low[0] > 2 * (alone.high[0] - alone.low[0])
    assert whole.low[0] < truth < whole.high[0]
    assert alone.high[0] < truth


def test_too_few_rows_or_no_column_of_sizes_leave_the_bootstrap() -> None:
    law = LAWS["power_floor"]
    x = np.geomspace(1e5, 1e7, 5)
    problem = Problem(law, law.names, {}, {"x": x}, np.log(2 + 10 * x**-0.3), np.ones(5))
    assert forecast(problem, {"x": x}, {"E": 2.0, "A": 10.0, "alpha": 0.3}) is None
    table = pd.DataFrame(
        {"params": x, "loss": 2 + 10 * x**-0.3 + 0.01 * np.array([1, -1, 1, -1, 0])}
    )
    found = fit(table, "power_floor", Options(bootstrap=20), checks=False)
    assert found.forecast is None
    assert found.holds() == ""


@pytest.mark.slow
def test_two_steps_hold_the_doubt_of_both(tmp_path) -> None:
    """Accuracy through the loss: twenty times beyond, the interval holds what is true there; far
    away it is wider than if the loss were known.
    """
    truth = {"chance": 0.25, "best": 0.95, "k": 3.0, "middle": 2.6}

    def measured(loss: np.ndarray) -> np.ndarray:
        reached = 1 / (1 + np.exp(-truth["k"] * (truth["middle"] - loss)))
        return truth["chance"] + (truth["best"] - truth["chance"]) * reached

    table = runs()
    noise = 0.003 * np.random.default_rng(1).normal(size=len(table))
    table = table.assign(accuracy=measured(table.loss) + noise)
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    asked = fit_request(
        table=str(path), law="chinchilla", then="accuracy", bootstrap=60, out=str(tmp_path)
    )
    made = fit_command(asked)
    assert "through its loss" in made.text
    first, second = made.fits[""], made.seconds[""]
    assert Fit.from_json((tmp_path / "then.json").read_text()).params == second.params
    at = {"params": [2e10], "tokens": [4e11]}
    loss = TRUTH["E"] + TRUTH["A"] * 2e10 ** -TRUTH["alpha"] + TRUTH["B"] * 4e11**-0.37
    band = Chain(first, second).predict(at)
    assert band.low[0] < measured(loss) < band.high[0]
    # Far away the loss is in doubt, which a known loss would not be.
    far = {"params": [1e13], "tokens": [2e14]}
    lost, known = Chain(first, second).predict(far), second.predict(first.predict(far).mean)
    assert lost.high[0] - lost.low[0] > known.high[0] - known.low[0]
    bare = Chain(replace(first, forecast=None), replace(second, forecast=None)).predict(at)
    assert bare.mean[0] == pytest.approx(band.mean[0], rel=0.02)
    assert bare.low[0] < measured(loss) < bare.high[0]
    with pytest.raises(UserError, match="reads a loss alone"):
        fit_command(replace(asked, then="chinchilla"))


@pytest.mark.slow
def test_no_interval_of_an_accuracy_goes_beyond_one() -> None:
    rng = np.random.default_rng(0)
    loss = np.linspace(0.05, 3.0, 24)
    accuracy = np.clip(1 / (1 + np.exp(3 * (loss - 1.5))) + 0.05 * rng.normal(size=24), 0.01, 1)
    options = Options(bootstrap=40, delta=1.0, space="linear")
    found = fit(pd.DataFrame({"loss": loss, "accuracy": accuracy}), "accuracy", options)
    band = found.predict({"loss": [0.02, 1.5]})
    assert band.high[0] == 1.0
    assert band.low[0] < band.mean[0] <= 1.0
    assert band.high[1] < 1.0
