"""The replay of the benchmark of the time left: an even machine, and an estimate that is exact when
everything is known.
"""

import dataclasses

import pytest

from benchmarks.time_left import played, rows, table
from scaling.executors.remaining import Work
from scaling.records.timing import Cost


def cost(program: str, step_s: float, flops: float) -> Cost:
    return Cost(
        program=program,
        device_kind="cpu",
        devices=1,
        cores=1,
        members=1,
        steps=1000,
        step_s=step_s,
        compile_s=6.0,
        eval_s=150 * step_s,
        other_s=3.0,
        device_bytes=None,
        flops_per_step=flops,
        mfu=None,
    )


def test_runs_of_one_program_are_foreseen_exactly_once_one_of_them_has_ended():
    works = [Work("a", 1, 1000.0, 1e9, 1, 150.0)] * 6
    costs = [dataclasses.replace(cost("a", 0.1, 1e9), compile_s=c) for c in (6.0, *[3.0] * 5)]
    looks, end = played(works, costs, slots=2)
    assert end == 3 * (3.0 + 1000 * 0.1 + 15.0) + 3 * 3.0 + 3.0
    found = {row["at"]: row for row in rows(looks, end)}
    ended = [row for row in found.values() if row["at"] > 130.0]
    assert len(ended) > 5
    # A step in hand is not counted, nor a start that is shorter than the first.
    for row in ended:
        assert row["said"] == pytest.approx(row["true"], abs=4.0)
    assert "from 60 s on" in table(list(found.values()))


def test_a_ladder_of_sizes_is_foreseen_within_a_third_from_the_second_minute_on():
    """Six sizes, a run and a group of two of each, the largest first, as the quick start has them;
    a step costs a fixed part and its FLOPs.
    """
    works, costs = [], []
    for width, steps in ((112, 6524), (64, 2289), (48, 1327), (32, 685), (24, 394), (16, 213)):
        flops = 6.0 * 512 * (24 * width**2 + 600 * width)
        own = cost(str(width), 3e-3 + flops / 25e9, flops)
        for members in (1,) if width == 112 else (2, 1):
            works.append(Work(str(width), members, float(steps), flops, 1, 260.0))
            group = {"members": members, "step_s": own.step_s * members}
            costs.append(dataclasses.replace(own, **group, eval_s=own.eval_s * members))
    looks, end = played(works, costs, slots=2)
    assert end > 180.0
    late = [row for row in rows(looks, end) if row["at"] >= 60.0]
    assert len(late) >= 6
    assert all(0.7 < row["ratio"] < 1.3 for row in late), table(rows(looks, end))
