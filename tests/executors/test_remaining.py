"""The time left of a sweep: the seconds that its jobs take when each takes what was measured."""

import dataclasses
import json

import pytest

from scaling.executors.remaining import Sweep, Work, as_dict, from_dict
from scaling.records.timing import Cost


def cost(program: str = "a", step_s: float = 0.5, **fields) -> Cost:
    known = Cost(
        program=program,
        device_kind="cpu",
        devices=1,
        cores=1,
        members=1,
        steps=100,
        step_s=step_s,
        compile_s=7.0,
        eval_s=2.0,
        other_s=1.0,
        device_bytes=None,
        flops_per_step=1e9,
        mfu=None,
    )
    return dataclasses.replace(known, **fields)


def work(program: str = "a", steps: float = 100.0, **fields) -> Work:
    known = Work(program, 1, steps, 1e9, evaluations=1, evaluation_steps=10.0)
    return dataclasses.replace(known, **fields)


def test_nothing_is_left_of_nothing_and_nothing_known_is_not_a_number():
    assert Sweep(2, [], []).seconds() == 0.0
    assert Sweep(2, [work()], []).seconds() is None


def test_a_running_job_takes_its_steps_and_its_evaluation_not_its_compilation_again():
    running = work(running=500.0, cost=cost(compile_s=400.0, other_s=50.0))
    assert Sweep(1, [running], [running.cost]).seconds() == pytest.approx(100 * 0.5 + 2.0)


def test_a_job_that_evaluates_has_the_rest_of_that():
    running = work(steps=0.0, running=500.0, cost=cost(step_s=0.5))
    seen = [cost(eval_s=20.0)]
    for ending, left in ((0.0, 20.0), (15.0, 5.0), (60.0, 6.0)):
        sweep = Sweep(1, [dataclasses.replace(running, ending=ending)], seen)
        assert sweep.seconds() == pytest.approx(left)


def test_jobs_that_wait_start_and_compile_once_a_program_and_share_the_slots():
    running = work(running=9.0, cost=cost())
    first = 100 * 0.5 + 2.0
    again = 1.0 + 3.0 + first  # from jax's cache
    other = 1.0 + 7.0 + first  # as long as the compilation that was seen
    now = [running.cost]
    alike = work(flops=1.01e9)
    for waiting, took in (([alike], again), ([alike, alike], 2 * again)):
        left = Sweep(1, [running, *waiting], now).seconds()
        assert left == pytest.approx(first + took, rel=1e-6)
    unseen = Sweep(1, [running, work("b")], now).seconds()
    assert unseen == pytest.approx(first + other)
    assert Sweep(2, [running, work("b")], now).seconds() == pytest.approx(other)
    # Two of a program that begin at once find nothing in the cache, or the first's.
    assert Sweep(3, [running, work("b"), work("b")], now).seconds() == pytest.approx(other)


def test_a_job_that_is_starting_has_the_rest_of_a_start_before_it():
    trained = cost()
    left = [
        Sweep(1, [work("b", running=seconds)], [trained]).seconds() for seconds in (2.0, 6.0, 30.0)
    ]
    assert left == pytest.approx([6.0 + 52.0, 2.0 + 52.0, 3.0 + 52.0])


def test_the_members_of_a_group_take_as_long_as_the_group():
    group = work(members=4, running=9.0, cost=cost(step_s=2.0, members=4, eval_s=8.0))
    assert Sweep(1, [group], [group.cost]).seconds() == pytest.approx(100 * 2.0 + 8.0)
    # Of a group of its program, a run alone has a quarter of the steps.
    alone = Sweep(1, [work()], [group.cost]).seconds()
    assert alone == pytest.approx(1.0 + 7.0 + 100 * 0.5 + 2.0)


def test_a_size_that_was_not_seen_lies_on_the_line_of_its_neighbours():
    """Seconds grow as FLOPs to the power 0.8 here: the sizes between and beyond, too."""

    def seen(flops: float) -> Cost:
        seconds = (flops / 1e9) ** 0.8
        return cost(str(flops), seconds, flops_per_step=flops, eval_s=None)

    for flops, now in ((4e9, [seen(1e9), seen(1e10)]), (1e11, [seen(1e9), seen(1e10)])):
        expected = (flops / 1e9) ** 0.8
        one, two = (
            Sweep(1, [work("new", steps, flops=flops, evaluations=0)], now).seconds()
            for steps in (100.0, 200.0)
        )
        assert two - one == pytest.approx(100 * expected)
    # No size costs more than its FLOPs, none less than its power allows.
    steep = [cost("x", 1.0, flops_per_step=1e9), cost("y", 100.0, flops_per_step=1e10)]
    (near,) = (Sweep(1, [work("z", 1.0, flops=2e10, evaluations=0)], steep).seconds(),)
    assert near == pytest.approx(1.0 + 7.0 + 200.0)


def test_records_of_other_days_are_taken_as_fast_as_the_machine_is_today():
    before = {"a": [cost("a", 0.1)], "b": [cost("b", 0.3)]}
    slower = cost("a", 0.2, eval_s=4.0)
    one, two = (
        Sweep(1, [work("b", steps, evaluations=0)], [slower], before).seconds()
        for steps in (100.0, 200.0)
    )
    assert two - one == pytest.approx(100 * 0.6)
    untouched = Sweep(1, [work("b", 100.0)], [], before).seconds()
    assert untouched == pytest.approx(1.0 + 7.0 + 30.0 + 2.0)


def test_a_branch_begins_where_its_trunk_lets_it():
    trunk = work("a", 1000.0, running=9.0, cost=cost(), evaluations=0)
    branch = work("a", 100.0, trunk=0, behind=900.0, evaluations=0)
    alone = 1.0 + 3.0 + 100 * 0.5
    assert Sweep(2, [trunk, branch], [trunk.cost]).seconds() == pytest.approx(450.0 + alone)
    waiting = dataclasses.replace(trunk, running=None, cost=None)
    both = Sweep(2, [waiting, branch], [trunk.cost])
    assert both.seconds() == pytest.approx(4.0 + 450.0 + alone)
    assert Sweep(1, [trunk, branch], [trunk.cost]).seconds() == pytest.approx(500.0 + alone)


def test_what_was_seen_survives_as_json():
    running = work(running=9.0, cost=cost())
    sweep = Sweep(2, [running, work("b", trunk=0, behind=3.0)], [cost()], {"a": [cost()]})
    assert from_dict(json.loads(json.dumps(as_dict(sweep)))) == sweep


def test_a_rate_is_believed_when_it_was_seen_for_some_seconds():
    """The first steps of a job stand beside another's compilation: neither that job nor those of
    its size are said to be as slow, until they have been for a while.
    """
    seen = cost(step_s=0.5, steps=100)
    for steps, step in ((2, 0.5), (100, 1.5)):
        new = cost("b", step_s=1.5, steps=steps)
        running = work("b", running=9.0, cost=new)
        left = Sweep(1, [running], [seen, new]).seconds()
        evaluation = 2.0 / 0.5 if steps == 2 else 2.0 / 1.5  # steps, of those that were seen
        assert left == pytest.approx(100 * step + evaluation * step, rel=0.05)
    # Where there is nothing else, they are all that is known.
    running = work("b", running=9.0, cost=cost("b", step_s=1.5, steps=2))
    assert Sweep(1, [running], [running.cost]).seconds() == pytest.approx(100 * 1.5 + 2.0)
