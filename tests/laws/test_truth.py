"""A fit beside what is known of its data: in words, in numbers, in the stored fit."""

import numpy as np
import pandas as pd
import pytest

from scaling import laws
from scaling.laws.result import Fit
from scaling.laws.truth import truth_of


def table(floor: float = 2.0, of: str = "loss", **columns: object) -> pd.DataFrame:
    x = np.geomspace(10, 1000, 8)
    rng = np.random.default_rng(0)
    off = 3.0 * x**-0.5 * np.exp(0.01 * rng.normal(size=len(x)))
    measured = floor + off if of == "loss" else floor - off
    known = {"truth": "a theory", "truth_of": of, "true_floor": floor, "true_floor_se": 0.0}
    known |= {"true_exponent/amount": 0.5, "true_exponent/width": 0.9}
    rows = {"params": x, "amount": x, "pebbles": x, "unit": "pebble", "width": x, of: measured}
    return pd.DataFrame(rows | known | columns)


def known(rows: pd.DataFrame, law: str, x: str, loss: str = "loss") -> dict[str, float]:
    found = truth_of(rows, laws.LAWS[law], {"x": x}, loss)
    return {name: value for name, (value, _) in found.values.items()}


def test_parameters_are_matched_by_their_columns():
    assert known(table(), "power_floor", "pebbles") == {"E": 2.0, "alpha": 0.5}
    assert known(table(), "power_floor", "amount") == {"E": 2.0, "alpha": 0.5}
    assert known(table(), "power_floor", "width") == {"E": 2.0, "alpha": 0.9}
    assert known(table(), "power_floor", "params") == {"E": 2.0}
    # A law without a floor says nothing of data that have one.
    assert known(table(), "power", "amount") == {}
    assert known(table(floor=0.0), "power", "amount") == {"alpha": 0.5}
    # An exponent at the start is not one at the end.
    assert known(table(), "broken_power", "amount") == {}


def test_rows_that_say_nothing_or_not_the_same_are_known_of_nothing():
    mixed = table(**{"true_exponent/amount": [0.5] * 7 + [0.6]})
    assert known(mixed, "power_floor", "amount") == {"E": 2.0}
    assert known(table(truth=["a"] * 7 + ["b"]), "power_floor", "amount") == {}
    assert known(table().drop(columns="truth"), "power_floor", "amount") == {}


def test_the_distance_of_a_share_from_its_limit_tends_to_nothing():
    rows = table(floor=1.0, of="accuracy")
    rows["error"] = 1 - rows["accuracy"]
    rows["double"] = 2 - 2 * rows["accuracy"]
    assert known(rows, "power_floor", "amount", "error") == {"E": 0.0, "alpha": 0.5}
    assert known(rows, "power", "amount", "error") == {"alpha": 0.5}
    assert known(rows, "power_floor", "amount", "double") == {}


@pytest.mark.parametrize("unsure", [0.0, 0.5])
def test_a_fit_says_how_far_off_it_is(unsure: float):
    rows = table(**{"true_floor_se": unsure})
    fit = laws.fit(rows, "power_floor", laws.Options(x="pebbles", bootstrap=100))
    text = str(fit)
    assert "truth: E = 2" in text
    assert "a theory" in text
    assert text.count("standard errors off, its interval holds it") == 2
    off = fit.known.off("E", fit.params["E"], fit.errors["E"])
    assert np.isclose(off, (fit.params["E"] - 2) / np.hypot(fit.errors["E"], unsure))
    again = Fit.from_json(fit.to_json())
    assert again.known == fit.known
    assert str(again) == text
    wrong = laws.fit(
        rows.assign(**{"true_exponent/amount": 0.9}),
        "power_floor",
        laws.Options(x="pebbles", bootstrap=100),
    )
    assert "its interval misses it" in str(wrong)
