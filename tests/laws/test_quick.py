"""The first things anybody does: fit a power law with a floor, predict, hold out the largest."""

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Fit, Options, fit, holdout


def quick_start(seed: int, noise: float = 0.003) -> pd.DataFrame:
    """Five sizes, three seeds at the smaller, one at the largest."""
    rng = np.random.default_rng(seed)
    params = np.repeat([1e5, 3e5, 1e6, 3e6, 1e7], [3, 3, 3, 3, 1])
    loss = (1.2 + 30 * params**-0.25) * np.exp(noise * rng.normal(size=13))
    return pd.DataFrame({"params": params, "loss": loss, "tokens": 20 * params})


def test_exact_table_gives_its_parameters_back() -> None:
    found = fit(quick_start(0, noise=0.0), options=Options(bootstrap=0))
    np.testing.assert_allclose(
        [found.params[n] for n in ("E", "A", "alpha")], [1.2, 30, 0.25], rtol=1e-6
    )


def test_json_round_trip_keeps_predictions() -> None:
    found = fit(quick_start(1), options=Options(bootstrap=50))
    again = Fit.from_json(found.to_json())
    assert again == found
    one, two = found.predict([1e8, 1e9]), again.predict([1e8, 1e9])
    np.testing.assert_allclose(one.low, two.low, rtol=1e-7)
    assert (one.low < one.mean).all()
    assert (one.mean < one.high).all()


def test_holdout_leaves_the_largest_out() -> None:
    result = holdout(quick_start(2), options=Options(bootstrap=200))
    assert result.fit.n == 12
    assert len(result.held_out) == 1
    assert result.fit.ranges["x"] == (1e5, 3e6)
    assert result.low < result.predicted < result.high
    assert "3.3x" in result.sentence


def test_missing_column_names_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "params"'):
        fit(quick_start(0), options=Options(x="parms"))
