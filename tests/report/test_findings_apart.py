"""Which fields of a study a law is fitted apart at."""

import pandas as pd
import pytest

from scaling.report.findings import fitted_apart


@pytest.fixture
def grid() -> pd.DataFrame:
    """Two widths, two optimizers, three lengths; the width is known by the parameters."""
    rows = [
        {"params": params, "tokens": tokens, "model.width": width, "optim.name": name}
        for width, params in ((8, 1e3), (16, 4e3))
        for name in ("adamw", "lion")
        for tokens in (1e5, 2e5, 4e5)
    ]
    return pd.DataFrame(rows).assign(unit="token")


def test_a_law_of_several_columns_is_one_over_what_these_say(grid: pd.DataFrame) -> None:
    by = ("model.width", "optim.name")
    assert fitted_apart(grid, "chinchilla", "tokens", by) == ("optim.name",)
    # A law of one column knows nothing of the others.
    assert fitted_apart(grid, "power_floor", "tokens", by) == by


def test_what_the_columns_tell_only_in_part_stays_apart(grid: pd.DataFrame) -> None:
    same = grid.assign(params=1e3)
    assert fitted_apart(same, "chinchilla", "tokens", ("model.width",)) == ("model.width",)
