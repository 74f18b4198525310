"""Rolling-origin tests of a table by itself."""

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Options, backtest, fit, holdout
from scaling.laws.automatic import candidates, choose
from scaling.laws.backtests import interval_score
from scaling.laws.fit_command import fit_command
from tests.laws.conftest import fit_request
from tests.laws.test_law_forecast import runs

FEW = Options(bootstrap=30)


def sizes(seed: int = 0) -> pd.DataFrame:
    """Nine sizes, two seeds each."""
    rng = np.random.default_rng(seed)
    params = np.repeat(np.geomspace(1e5, 1e9, 9), 2)
    loss = (1.7 + 30 * params**-0.28) * np.exp(0.002 * rng.normal(size=18))
    return pd.DataFrame({"params": params, "loss": loss})


def test_every_run_above_every_cut_is_predicted_from_those_below() -> None:
    table = sizes()
    done = backtest(table, "power_floor", FEW)
    # Cuts that leave fewer sizes than parameters are told.
    assert done.by == "params"
    assert len(done.refused) == 2
    levels = np.unique(table.params)
    assert sorted(done.rows.below.unique()) == pytest.approx(levels[2:-1])
    for below, part in done.rows.groupby("below"):
        assert len(part) == (table.params > below).sum()
        assert (part.n == (table.params <= below).sum()).all()
        assert (part.factor > 1).all()
    alone = fit(table[table.params <= levels[4]], "power_floor", FEW, checks=False)
    band = alone.predict(table[table.params > levels[4]].params)
    part = done.rows[np.isclose(done.rows.below, levels[4])]
    np.testing.assert_allclose(part.predicted, band.mean, rtol=1e-12)
    np.testing.assert_allclose(part.high, band.high, rtol=1e-12)


def test_runs_above_a_cut_do_not_move_its_predictions() -> None:
    table = sizes()
    other = table.assign(loss=np.where(table.params > 5e8, 3 * table.loss, table.loss))
    one, two = (backtest(t, "power_floor", FEW).rows for t in (table, other))
    np.testing.assert_array_equal(one.predicted, two.predicted)
    assert (two.measured != one.measured).any()


def test_only_runs_that_agree_in_all_columns_are_replicates() -> None:
    seeds = holdout(sizes(), "power_floor", FEW)
    assert seeds.actual_se == pytest.approx(seeds.rows.measured.std(ddof=1) / 2**0.5)
    assert "±" in seeds.sentence
    budget = holdout(runs(), "chinchilla", FEW, by="flops")
    assert len(budget.rows) == 8
    assert budget.actual_se is None
    assert "±" not in budget.sentence
    assert f"{int(budget.rows.held.sum())} of 8 runs lie within" in budget.sentence


def test_interval_score() -> None:
    rows = pd.DataFrame(
        {"low": [1.0, 1.0, 1.0], "high": [3.0, 3.0, 3.0], "measured": [2.0, 4.0, 0.5]}
    )
    np.testing.assert_allclose(interval_score(rows, 0.9), [1.0, 22 / 4, 12 / 0.5])


def test_a_table_of_one_size_has_no_backtest() -> None:
    with pytest.raises(UserError, match="no cut can be fitted"):
        backtest(sizes().assign(params=1e6), "power_floor", FEW)
    with pytest.raises(UserError, match="no column steps"):
        backtest(sizes(), "power_floor", FEW, by="steps")


def test_auto_compares_what_the_columns_allow() -> None:
    table = runs()
    assert candidates(table, Options()) == ["compute", "kaplan", "chinchilla", "chinchilla_tied"]
    assert "data_constrained" in candidates(table.assign(unique_tokens=1e9), Options())
    # A column that does not vary, and one that is typed.
    assert candidates(table.assign(params=1e8), Options()) == ["compute"]
    of_one = candidates(table, Options(x="flops"))
    assert {"power", "power_floor"} <= {*of_one}
    assert "chinchilla" not in of_one
    assert candidates(table.assign(lr=1e-3), Options(loss="lr"))[0] == "best_lr"
    with pytest.raises(UserError, match="no law reads the columns of this table"):
        candidates(table[["flops"]].assign(loss=2.0), Options(x="width"))


def test_auto_takes_the_law_that_predicts(tmp_path) -> None:
    table = sizes().assign(note="as it is")
    chosen = choose(table, FEW, laws=["power", "power_floor"])
    assert chosen.law == chosen.table.law[0] == "power_floor"
    assert chosen.table.score[1] > 2 * chosen.table.score[0]
    # Both are judged on the same predictions: those of the larger law.
    assert chosen.table.predictions.nunique() == 1
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match="leave --bootstrap=0 out"):
        fit_command(fit_request(table=str(path), law="auto", bootstrap=0))
    with pytest.raises(UserError, match="give --law with --by"):
        fit_command(fit_request(table=str(path), law="auto", by="note"))


@pytest.mark.slow
def test_the_command_chooses_a_law(tmp_path) -> None:
    table = tmp_path / "runs.csv"
    sizes().iloc[:12].to_csv(table, index=False)  # too few for laws of five parameters
    out = tmp_path / "fit"
    asked = fit_request(table=str(table), law="auto", bootstrap=30, out=str(out))
    made = fit_command(asked)
    assert made.fits[""].law in ("power_floor", "m3")
    assert f"--law=auto: {made.fits[''].law} of" in made.text
    assert pd.read_csv(out / "laws.csv").law[0] == made.fits[""].law


def test_the_command_writes_the_backtest(tmp_path) -> None:
    table = tmp_path / "runs.csv"
    sizes().to_csv(table, index=False)
    out = tmp_path / "fit"
    asked = fit_request(
        table=str(table), bootstrap=30, backtest=True, compare="power", out=str(out)
    )
    made = fit_command(asked)
    assert "Backtest by params, power_floor" in made.text
    written = pd.read_csv(out / "backtest_rows.csv")
    assert len(written) == len(made.backtests[""].rows)
    summary = pd.read_csv(out / "backtest.csv")
    assert summary.runs.iloc[:-1].sum() == summary.runs.iloc[-1] == len(written)
    compared = pd.read_csv(out / "comparison.csv")
    # Laws are ordered by the score of their backtests: the power law without a floor is last.
    assert compared.law.tolist() == ["power_floor", "power"]
    assert (compared.score.diff().dropna() > 0).all()
