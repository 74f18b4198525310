"""The data that pretraining was worth are those of a known law, recovered."""

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws.transferred import transferred

ALPHA = 0.4


def loss_of(data):
    """From scratch: the same for all sizes but for a factor."""
    return 5.0 * np.asarray(data, float) ** -ALPHA


def runs() -> pd.DataFrame:
    """Three sizes; tuned on D, a run is as good as one from scratch on D + k D^a N^b."""
    rows = []
    for params in (1e4, 4e4, 1.6e5):
        for tuned in (100, 400, 1600):
            rows.append({"trained": "whole", "params": params, "tuned_tokens": tuned})
            rows[-1] |= {"loss": loss_of(tuned + 3 * tuned**0.2 * params**0.4)}
        for data in (50, 200, 800, 3200, 12800):
            rows.append({"trained": "scratch", "params": params, "tuned_tokens": data})
            rows[-1] |= {"loss": loss_of(data)}
    return pd.DataFrame(rows)


def test_what_was_put_in_is_found():
    found = transferred(runs())
    assert len(found) == 9
    expected = 3 * found["tuned_tokens"] ** 0.2 * found["params"] ** 0.4
    np.testing.assert_allclose(found["transferred"], expected, rtol=1e-6)


def test_nothing_is_guessed_beyond_the_runs_from_scratch():
    table = runs()
    better = (table["trained"] == "whole") & (table["tuned_tokens"] == 1600)
    table.loc[better, "loss"] = loss_of(20_000)
    found = transferred(table).set_index("tuned_tokens")["transferred"]
    assert found[1600].isna().all()
    assert found[400].notna().all()


def test_runs_that_do_not_lower_the_loss_need_no_more_data():
    table = runs()
    table.loc[(table["trained"] == "scratch") & (table["tuned_tokens"] == 800), "loss"] = 9.0
    assert transferred(table)["transferred"].notna().all()


def test_a_table_of_one_kind_of_runs_is_refused():
    table = runs()
    with pytest.raises(UserError, match="loss is no column of the table"):
        transferred(table.drop(columns="loss"))
    for kept in ("whole", "scratch"):
        with pytest.raises(UserError, match='trained="scratch" must be some of the runs'):
            transferred(table[table["trained"] == kept])
