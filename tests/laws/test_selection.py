"""Comparison of forms, sensitivity to choices, and predictions that cannot be changed later."""

import json

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.registration import preregister, score
from scaling.laws.selection import compare, sensitivity


def with_floor() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    params = np.repeat(np.geomspace(1e5, 1e9, 9), 2)
    loss = (1.7 + 30 * params**-0.28) * np.exp(0.001 * rng.normal(size=len(params)))
    return pd.DataFrame({"params": params, "loss": loss})


def test_the_true_form_wins() -> None:
    table = compare(with_floor(), ["power", "power_floor"], Options(bootstrap=50))
    assert table.law[0] == "power_floor"
    assert table.aicc.idxmin() == 0
    assert table.bic.idxmin() == 0
    assert table.within[0]
    assert abs(table.held_out_error[0]) < 0.01 < abs(table.held_out_error[1])


def test_a_law_that_cannot_be_fitted_is_told_not_raised() -> None:
    table = compare(with_floor(), ["power_floor", "chinchilla"], Options(bootstrap=50))
    assert "tokens" in table.set_index("law").note["chinchilla"]


def test_sensitivity_shows_what_the_published_table_shows(chinchilla_240: pd.DataFrame) -> None:
    table = sensitivity(
        chinchilla_240, "chinchilla", drop_largest=(5,), drop_smallest_sizes=(1,), floors=(0.0,),
        deltas=(1e-2,), at={"params": 1e11, "tokens": 2e12},
    ).set_index("choice")  # fmt: skip
    exponent = table.optimal_params_exponent
    assert exponent["as asked"] == pytest.approx(0.5139, abs=1e-4)
    assert exponent["least squares"] == pytest.approx(0.5298, abs=1e-4)
    assert exponent["absolute deviations"] == pytest.approx(0.5126, abs=1e-4)
    # An asymptote at zero is another answer altogether.
    assert exponent["E fixed at 0 of the least loss"] < 0.2
    assert table.predicted["E fixed at 0 of the least loss"] < table.predicted["as asked"] - 0.1
    assert table.n["without the 5 largest losses"] == 235


def test_an_unknown_law_is_not_compared() -> None:
    with pytest.raises(UserError, match=r"no law kaplann; .*first: kaplan,"):
        compare(with_floor(), ["power_floor", "kaplann"])


def test_choices_that_were_made_are_not_tried_again() -> None:
    kinds = {"huber": "Huber delta 0.01", "squares": "least squares"}
    for objective, name in kinds.items():
        table = sensitivity(
            with_floor(),
            "power_floor",
            Options(objective=objective, delta=1e-2),
            deltas=(1e-2,),
            drop_largest=(),
            drop_smallest_sizes=(),
            floors=(),
        )
        others = {*kinds.values(), "absolute deviations", "as asked"} - {name}
        assert set(table.choice) == others


def test_the_convention_of_counting_params_is_one_of_the_choices() -> None:
    table = with_floor()
    table["params_non_embedding"] = table.params * (1 - 0.5 * (1e5 / table.params) ** 0.3)
    found = sensitivity(table, "power_floor", floors=(), deltas=(), drop_largest=())
    moved = found.set_index("choice").alpha
    assert abs(moved["params counted as params_non_embedding"] - moved["as asked"]) > 0.01


def test_prediction_is_scored_and_a_change_is_seen() -> None:
    table = with_floor()
    known = table[table.params < 5e8]
    text = preregister(
        fit(known, options=Options(bootstrap=200)), {"params": 1e9}, table=known, when="2026-01-01"
    )
    done = score(text, table)
    assert done.within
    assert "within the interval" in done.sentence
    changed = json.loads(text)
    changed["high"] += 1e-6
    with pytest.raises(UserError, match="changed after it was written"):
        score(json.dumps(changed), table)
    with pytest.raises(UserError, match="no finished run at params"):
        score(text, known)
    with pytest.raises(UserError, match="no prediction"):
        score("{}", table)
