"""What a sweep of many cells costs grows as its cells do: operations are counted, not timed."""

import collections
import sys

import pytest

from benchmarks import sweep_plan
from scaling.check import memory
from scaling.executors import preview
from scaling.studies import study

SIZES = (5, 10, 20)


def operations(work) -> int:
    """Calls of functions, Python's and built-in ones, that `work` makes."""
    counts: collections.Counter[str] = collections.Counter()

    def count(_frame, event, _argument):
        counts[event] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counts["call"] + counts["c_call"]


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """Stage -> operations at each of SIZES, but for the two that trace programs."""
    found: dict[str, list[int]] = {}
    for cells in SIZES:
        for name, work in sweep_plan.stages(cells, tmp_path_factory.mktemp("plan")).items():
            if name not in ("preview.table", "jobs"):
                if name not in found:
                    work()  # imports, and the measured peak of the CPU
                found.setdefault(name, []).append(operations(work))
    return found


def test_every_stage_grows_linearly(counts):
    """Twice the cells add what the doubling before added twice over: a quadratic part would show as
    a factor of up to four.
    """
    assert counts.keys() > {"study.runs", "why", "status", "table", "forecast"}
    for name, (small, middle, large) in counts.items():
        growth = (large - middle) / (middle - small)
        assert growth == pytest.approx(2.0, rel=0.15), name


def test_a_cell_costs_some_thousand_operations(counts):
    """At about 10 million a second, 2,000 cells then take seconds."""
    for name, (_, middle, large) in counts.items():
        assert (large - middle) / (SIZES[2] - SIZES[1]) < 15_000, name


def test_memory_is_estimated_once_a_program(tmp_path, monkeypatch):
    seen = []
    real = memory.estimate_bytes

    def counted(config, *rest):
        seen.append(config.model.width)
        return real(config, *rest)

    monkeypatch.setattr(memory, "estimate_bytes", counted)
    configs = study.runs(sweep_plan.make_study(30, tmp_path / "text"))
    narrow = [config for config in configs if config.model.width == 16]
    assert len(narrow) > 5
    preview.table(narrow, tmp_path, devices=1)
    assert seen == [16]
