"""Which start of a run made which of its steps."""

import pytest
from written import resolved, started

from scaling.config import override
from scaling.records import starts
from scaling.records.tables import table


def start(step: int | None, name: str = "") -> starts.Start:
    return starts.Start("2026-01-01", step, {"device_kind": name}, {})


def test_the_last_start_before_a_step_made_it():
    a, b, c = start(0, "a"), start(8, "b"), start(12, "c")
    assert starts.makers([a, b, c], 0, 20) == [a, b, c]
    assert starts.makers([a, b, c], 0, 8) == [a]
    assert starts.makers([a, b, c], 8, 12) == [b]
    assert starts.makers([a, b, c], 11, 13) == [b, c]


def test_a_start_that_goes_back_makes_again_what_others_had_made():
    a, b, c = start(0, "a"), start(8, "b"), start(4, "c")
    assert starts.makers([a, b, c], 4, 20) == [c]
    assert starts.makers([a, b, c], 0, 20) == [a, c]


def test_a_start_that_trained_nothing_made_nothing():
    a, b = start(0, "a"), start(None, "b")
    assert starts.makers([a, b], 0, 20) == [a]
    assert starts.makers([b], 0, 20) == [None]


def test_the_first_steps_of_a_branch_are_nobodys():
    a = start(6, "a")
    assert starts.makers([a], 6, 12) == [a]
    assert starts.makers([a], 0, 12) == [None, a]


@pytest.mark.parametrize("back", [False, True])
def test_the_table_shows_the_last_start_that_trained(tmp_path, back):
    """Not one that was refused, or failed before its first step, be it before or after."""
    config = resolved()
    other = override(config, {"train.microbatches": 4})
    here, there = ({"device_kind": kind, "device_count": 1} for kind in ("here", "there"))
    run = started(config, tmp_path)  # on "cpu", and refused
    started(resolved(seed=1), tmp_path)
    run.start(other, here)
    run.went_on(0)
    if back:
        run.start(config, there)
    row = table(tmp_path).iloc[0]
    assert row["name"] == run.path.name
    assert (row["device"], row["train.microbatches"]) == ("here", 4)
    # The command that repeats the run repeats its last start.
    assert run.config() == (config if back else other)
