"""What a sweep will take: by records of the same program, else by FLOPs and a utilization."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from scaling.config import RunConfig, override, run_name
from scaling.config.contracts import Facts
from scaling.config.resolve import resolve
from scaling.costs import sizes
from scaling.devices import peaks
from scaling.executors import forecast
from scaling.records import RunDirectory, timing


def facts(*_) -> Facts:
    return Facts("c0ffee", 10**7 // 256, 10**5 // 256, {"vocab": 257})


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    base = resolve(
        RunConfig(train=dataclasses.replace(RunConfig().train, steps=100)), facts, sizes.size
    )
    return [
        override(base, {"optim.peak_lr": 1e-3}),
        override(base, {"optim.peak_lr": 1e-2, "seed": 1}),
        override(base, {"train.batch_size": 64}),
    ]


def cost(config: RunConfig, **fields) -> timing.Cost:
    device = jax.devices()[0]
    known = timing.Cost(
        program=timing.program(config),
        device_kind=device.device_kind,
        devices=1,
        cores=timing.cores_here("cpu"),
        members=1,
        steps=100,
        step_s=0.5,
        compile_s=7.0,
        eval_s=2.0,
        other_s=1.0,
        device_bytes=None,
        flops_per_step=1e9,
        mfu=0.125,
    )
    return dataclasses.replace(known, **fields)


def test_runs_that_differ_in_values_share_a_program(plan):
    assert timing.program(plan[0]) == timing.program(plan[1])
    assert timing.program(plan[0]) != timing.program(plan[2])
    longer = override(plan[0], {"train.steps": 200, "evals.every": 5, "train.log_every": 3})
    assert timing.program(plan[0]) == timing.program(longer)


def test_runs_that_end_at_once_all_leave_their_costs(plan, tmp_path):
    """As the members of a packed group do, in threads of one process."""
    costs_of = [cost(plan[0], step_s=float(i)) for i in range(12)]
    runs = [RunDirectory(tmp_path / str(i)) for i in range(12)]
    for run in runs:
        run.path.mkdir()
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(timing.write, costs_of, runs))
    name = timing.program(plan[0])
    assert {c.step_s for c in timing.known([name])[name]} == {c.step_s for c in costs_of}


def test_without_a_record_by_flops_and_the_utilization_given(plan, tmp_path):
    device = jax.devices()[0]
    found = forecast.forecast(plan, tmp_path, device, mfu=0.5)
    # Two programs are compiled; the second run finds its own compiled.
    for estimate, config, start in zip(found.estimates, plan, (10.0, 3.0, 10.0), strict=True):
        peak = peaks.peak_flops(device, config.model.dtype)
        assert estimate.seconds == pytest.approx(start + sizes.cost(config).flops / (peak * 0.5))
    assert "3 from FLOPs at an MFU of 0.5 and 10 s to start each new program" in found.text()
    assert "MFU of 0.3" in forecast.forecast(plan, tmp_path, device).text()


def test_a_record_of_one_run_predicts_its_program_also_in_another_workdir(plan, tmp_path):
    run = RunDirectory.open(plan[0], tmp_path / "first")
    run.start(plan[0], {})
    timing.write(cost(plan[0]), run)
    assert timing.of_run(run) == cost(plan[0])
    found = forecast.forecast(plan, tmp_path / "second", jax.devices()[0])
    expected = 1.0 + 7.0 + 100 * 0.5 + 2.0
    assert [e.seconds for e in found.estimates[:2]] == [expected, expected]
    assert [e.source for e in found.estimates] == [
        *("record", "record"),
        "MFU of 0.12 (of other programs here)",
    ]
    other_machine = cost(plan[0], device_kind="TPU v5 lite")
    assert timing.known([other_machine.program])[other_machine.program] == [cost(plan[0])]


def test_a_program_is_compiled_once(plan, tmp_path):
    """The first of its runs takes the usual time to compile, the others find it compiled."""
    run = RunDirectory.open(plan[0], tmp_path)
    run.start(plan[0], {})
    for seconds in (7.0, 9.0, 0.5):
        timing.write(cost(plan[0], compile_s=seconds), run)
    found = forecast.forecast(plan[:2], tmp_path, jax.devices()[0])
    first, second = (e.seconds for e in found.estimates)
    assert first - second == 7.0 - 0.5


def test_a_group_takes_the_seconds_of_the_group_on_record_once(plan, tmp_path):
    """However long its members start, compile and evaluate together; so does its job in a slot."""
    group = plan[:2]
    run = RunDirectory.open(group[0], tmp_path)
    run.start(group[0], {})
    timing.write(cost(group[0]), run)
    timing.write(cost(group[0], members=2, other_s=20.0, compile_s=9.0), run)
    device = jax.devices()[0]
    found = forecast.forecast(group, tmp_path, device, slots=2, groups=[group])
    assert found.seconds == found.wall_seconds == 20.0 + 9.0 + 100 * 0.5 + 2.0
    alone = forecast.forecast(group, tmp_path, device, slots=2)
    assert alone.seconds == 2 * alone.wall_seconds == 2 * (1.0 + 7.0 + 100 * 0.5 + 2.0)


def test_a_group_without_a_record_starts_once(plan, tmp_path):
    device = jax.devices()[0]
    group, each = (
        forecast.forecast(plan[:2], tmp_path, device, mfu=0.5, groups=groups).seconds
        for groups in ([plan[:2]], [])
    )
    assert each - group == pytest.approx(3.0)


def test_an_end_in_the_far_future_has_no_date(plan):
    """A plan of 1e22 FLOPs is looked at on a laptop; calendars end in the year 9999."""
    estimate = forecast.Estimate(plan[0], 1e13, "record", spent=0.0, job=0)
    text = forecast.Forecast((estimate,), devices=1, slots=1, start=10.0).text()
    assert text.endswith("they end in 115740740 d 17 h")


def test_no_ratio_to_a_prediction_of_nothing(plan, tmp_path):
    run = RunDirectory.open(plan[0], tmp_path)
    estimate = forecast.Estimate(plan[0], 0.01, "record", spent=0.0, job=0)
    run.start(plan[0], {})
    run.write_status("done", step=100, seconds=28.0)
    found = forecast.Forecast((estimate,), devices=1, slots=1, start=10.0)
    text, _ = forecast.against(found, tmp_path, 28.0)
    assert "took 28 s; the sweep took" in text


def test_only_what_is_left_is_counted_and_the_slots_share_it(plan, tmp_path):
    for config, state, step in zip(plan, ("done", "stopped"), (100, 60), strict=False):
        run = RunDirectory.open(config, tmp_path)
        run.start(config, {})
        run.write_status(state, step=step, steps=100, seconds=10.0)
    timing.write(cost(plan[0]), run)
    timing.write(cost(plan[2], step_s=1.0), run)
    found = forecast.forecast(plan, tmp_path, jax.devices()[0], slots=2)
    seconds = [e.seconds for e in found.estimates]
    assert seconds == [0.0, 1.0 + 7.0 + 40 * 0.5 + 2.0, 1.0 + 7.0 + 100 * 1.0 + 2.0]
    assert found.wall_seconds == max(seconds)
    assert found.chip_hours == pytest.approx(sum(seconds) / 3600)
    assert dataclasses.replace(found, slots=1).wall_seconds == sum(seconds)
    # The two that were left end, in 40 and in 120 seconds.
    for config, took in ((plan[1], 40.0), (plan[2], 120.0)):
        run = RunDirectory.open(config, tmp_path)
        run.start(config, {})
        before = run.status().get("seconds", 0.0)
        run.write_status("done", step=100, steps=100, seconds=before + took)
    text, frame = forecast.against(found, tmp_path, wall=125.0)
    assert list(frame["actual_s"]) == [40.0, 120.0]
    assert list(frame["predicted_s"]) == seconds[1:]
    assert f"{160 / sum(seconds):.2f} times" in text
    forecast.write(frame, tmp_path / "report")
    assert (tmp_path / "report" / "forecast.csv").read_text().startswith("run,predicted_s")


def test_steps_that_a_trunk_gives_are_not_counted(plan, tmp_path):
    timing.write(cost(plan[0]), RunDirectory.open(plan[0], tmp_path / "first"))
    shared = {run_name(plan[1]): 80}
    found = forecast.forecast(plan, tmp_path, jax.devices()[0], shared=shared)
    assert found.estimates[0].seconds - found.estimates[1].seconds == pytest.approx(80 * 0.5)


def test_afterwards_the_members_of_a_group_have_a_share_of_its_seconds_each(plan, tmp_path):
    predicted = forecast.forecast(plan[:2], tmp_path, jax.devices()[0])
    for config in plan[:2]:
        run = RunDirectory.open(config, tmp_path)
        run.start(config, {})
        run.write_status("done", step=100, seconds=30.0)
        timing.write(cost(config, members=2), run)
    _, frame = forecast.against(predicted, tmp_path, 30.0)
    assert list(frame["actual_s"]) == [15.0, 15.0]
