"""Every family with every kind of data and objective that fits (`combinations.py`), as runs: what
the loop leaves on disk, stopped, continued and packed.
"""

import math
import pathlib
import threading

import jax
import numpy as np
from combinations import Combination

from scaling.config import RunConfig, contracts
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.train.loop import train
from scaling.train.packed import train_packed
from tests.train.reading import final_state, lines


def test_stopped_and_continued_is_uninterrupted(one: Combination, tmp_path: pathlib.Path):
    """Bit for bit: stopped after its first update, and trained to its end by the same command."""
    devices, stop = jax.devices()[:1], threading.Event()
    stop.set()
    first = train(one.config, tmp_path, devices=devices, stop=stop, quiet=True)
    assert (first.status, first.step) == ("stopped", 1)
    assert train(one.config, tmp_path, devices=devices, quiet=True).status == "done"
    ours, whole = (RunDirectory.open(one.config, w) for w in (tmp_path, one.trained()))
    assert lines(ours) == lines(whole)
    for leaf, expected in zip(final_state(ours), final_state(whole), strict=True):
        np.testing.assert_array_equal(leaf, expected)


def test_packed_is_alone(one: Combination, tmp_path: pathlib.Path):
    """Two runs in one program: the same lines and states, rounded as another program rounds."""
    outcomes = train_packed(one.two, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert [getattr(o, "status", o) for o in outcomes] == ["done", "done"]
    for config in one.two:
        assert_same_run(config, tmp_path, one.trained())


def assert_same_run(config: RunConfig, ours_in: pathlib.Path, theirs_in: pathlib.Path) -> None:
    ours, theirs = (RunDirectory.open(config, workdir) for workdir in (ours_in, theirs_in))
    for line, expected in zip(lines(ours), lines(theirs), strict=True):
        assert line.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, float):
                assert math.isclose(line[name], value, rel_tol=1e-4, abs_tol=1e-5), name
            else:
                assert line[name] == value, name
    for leaf, wanted in zip(final_state(ours), final_state(theirs), strict=True):
        # Of the array as a whole: Adam divides a gradient by its own size, so that an element
        # whose gradient is all rounding moves as far as any other.
        assert np.linalg.norm(np.float64(leaf) - wanted) <= 1e-5 * np.linalg.norm(wanted) + 1e-7


def test_the_table_has_its_metrics_and_its_unit(one: Combination):
    rows = table(one.trained())
    unit = one.config.data.unit
    assert list(rows["status"]) == ["done", "done"]
    assert set(rows["unit"]) == {unit}
    assert set(contracts.columns(one.objective.metrics)) <= set(rows.columns)
    assert (rows["amount"] == rows[f"{unit}s"]).all()
    assert np.isfinite(rows["loss"]).all()
