"""Bad tables: one clear error each, or a fit that says what it cannot know. No warnings."""

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.rows import clusters, labels


def runs(sizes: int = 6, seeds: int = 2, noise: float = 0.002) -> pd.DataFrame:
    """A good table, to be spoilt."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(1e5, 1e8, sizes), seeds)
    loss = (1.2 + 30 * params**-0.25) * np.exp(noise * rng.normal(size=len(params)))
    return pd.DataFrame({"params": params, "loss": loss, "seed": np.arange(len(params)) % seeds})


def test_missing_column() -> None:
    with pytest.raises(UserError, match=r'no column loss \(did you mean "los"'):
        fit(runs().rename(columns={"loss": "los"}))


def test_missing_law_and_parameter() -> None:
    with pytest.raises(
        UserError, match=r"nearest first: chinchilla, chinchilla_tied, .*multi_power"
    ):
        fit(runs(), "chinchila")
    with pytest.raises(UserError, match="choose from huber, squares, absolute, asymmetric"):
        fit(runs(), options=Options(objective="hubert"))
    with pytest.raises(UserError, match="no parameter alfa"):
        fit(runs(), options=Options(fixed={"alfa": 0.3}))


def test_cells_that_are_no_numbers() -> None:
    table = runs().astype({"loss": object})
    table.loc[3, "loss"] = "diverged"
    with pytest.raises(UserError, match='column loss holds "diverged" in row 4'):
        fit(table)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_zeros_and_negatives(value: float) -> None:
    table = runs()
    table.loc[2, "params"] = value
    with pytest.raises(UserError, match=r"column params is .* in row 3"):
        fit(table)
    table = runs()
    table.loc[2, "loss"] = value
    with pytest.raises(UserError, match="no logarithm"):
        fit(table)


@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_losses_that_are_not_finite_are_left_out_and_named(value: float | None) -> None:
    table = runs()
    table.loc[[1, 5], "loss"] = value
    found = fit(table, options=Options(bootstrap=20))
    assert found.n == 10
    assert found.dropped == 2
    assert any("2 rows without a finite loss" in flag for flag in found.flags)


def test_no_rows_and_no_finite_loss() -> None:
    with pytest.raises(UserError, match="no rows"):
        fit(runs().iloc[:0])
    with pytest.raises(UserError, match="no row of the table"):
        fit(runs().assign(loss=np.nan))


def test_one_size_only() -> None:
    with pytest.raises(UserError, match="all 12 rows have the same params"):
        fit(runs().assign(params=1e6))


def test_two_points() -> None:
    with pytest.raises(UserError, match="3 free parameters and the table 2 distinct points"):
        fit(runs(sizes=2, seeds=3))


def test_as_many_points_as_parameters_has_no_interval() -> None:
    found = fit(runs(sizes=3, seeds=1), options=Options(bootstrap=50))
    assert not found.intervals
    assert found.method == "none"
    assert any("the noise is unknown" in flag for flag in found.flags)
    with pytest.raises(UserError, match="no more runs than it has parameters"):
        found.predict(1e9)


def test_three_sizes_with_seeds_cannot_show_lack_of_fit() -> None:
    found = fit(runs(sizes=3, seeds=4), options=Options(bootstrap=50))
    assert found.intervals
    assert any("lack of fit cannot be seen" in flag for flag in found.flags)


def test_copies_of_runs_count_once() -> None:
    table = runs()
    found = fit(pd.concat([table, table.iloc[:4]]), options=Options(bootstrap=0))
    assert found.n == 12
    assert found.dropped == 4
    assert any("4 rows are exact copies" in flag for flag in found.flags)
    # Runs that measured the same are no copies; with copies the objective is that of such runs.
    twice = pd.concat([table, table.iloc[:4]]).reset_index(drop=True)
    runs_apart = fit(twice.assign(run=twice.index), options=Options(bootstrap=0))
    assert runs_apart.n == 16
    told = next(flag for flag in found.flags if flag.startswith("the objective at the minimum"))
    assert f"{found.objective:.9g} without the copies and" in told
    assert f"{runs_apart.objective:.9g} with them" in told


def test_equal_losses() -> None:
    with pytest.raises(UserError, match="are equal"):
        fit(runs().assign(loss=2.5))


def test_loss_that_rises_with_size_is_said_not_to_follow_the_law() -> None:
    table = runs()
    table["loss"] = 1 + 0.01 * np.log(table.params)
    found = fit(table, options=Options(bootstrap=0))
    assert found.status != "interior"
    assert found.flags


def test_pure_power_law_does_not_identify_a_floor() -> None:
    table = runs(noise=0.0)
    noise = np.random.default_rng(1).normal(size=len(table))
    table["loss"] = 30 * table.params**-0.25 * np.exp(0.01 * noise)
    found = fit(table, options=Options(bootstrap=200))
    assert "E" in found.unidentified
    assert found.status == "unidentified"


def test_a_standard_deviation_must_be_positive() -> None:
    with pytest.raises(UserError, match="positive standard deviations"):
        fit(runs().assign(sd=0.0), options=Options(sd="sd"))


def test_a_row_without_a_cluster_stands_alone() -> None:
    table = pd.DataFrame({"trunk": ["x", "y", None, None, "x"], "name": list("abcde")})
    np.testing.assert_array_equal(labels(table, "trunk"), [0, 1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(clusters(table, "trunk"), [0, 1, 2, 3, 0])
    # The trunk's own row is with the runs that branched from it.
    branches = pd.DataFrame({"branched_from": ["c", None, None, "c"], "name": list("abcd")})
    shared = clusters(branches, "branched_from")
    assert shared[0] == shared[2] == shared[3] != shared[1]


def test_one_cluster_gives_no_intervals() -> None:
    table = runs().assign(trunk="x")
    with pytest.raises(UserError, match="all rows are of one cluster"):
        fit(table, options=Options(cluster="trunk", bootstrap=20))
    assert not fit(table, options=Options(cluster="trunk", bootstrap=0)).intervals
    # Without any, each row is its own.
    alone = fit(table.assign(trunk=None), options=Options(cluster="trunk", bootstrap=20))
    assert "12 clusters" in alone.method
    assert all(high > low for low, high in alone.intervals.values())
