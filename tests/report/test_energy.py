"""What a run draws: meters, estimates, the table, and a budget in joules."""

import dataclasses
import pathlib

import pytest

from scaling.config import RunConfig, fingerprint, override
from scaling.config.checks import check_ranges
from scaling.costs.energy import CORE_WATTS, of_run
from scaling.devices.power import meter
from scaling.errors import UserError
from scaling.laws import Options, fit
from scaling.laws.measures import flops_per_joule
from scaling.laws.options import PlanRequest
from scaling.laws.plan_command import plan_command
from scaling.records import tables
from tests.laws.test_law_forecast import runs

from .conftest import record

H100 = {"device_kind": "NVIDIA H100 80GB HBM3", "device_count": 4, "members": 2}


def write(root: pathlib.Path, name: str, microjoules: int) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")


def test_rapl_counts_packages_and_wraps(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert meter("cpu", (), tmp_path) is None  # a machine without
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):  # the last a part of the first
        write(tmp_path, name, 900_000_000)
    counted = meter("cpu", (), tmp_path)
    assert counted is not None
    assert counted.drawn() == 0
    write(tmp_path, "intel-rapl:0", 960_000_000)
    write(tmp_path, "intel-rapl:1", 20_000_000)  # has wrapped at 1,000 J
    # 60 and 120 J, of which one core of four
    assert counted.drawn() == pytest.approx(180 / 4)
    assert counted.drawn() == 0
    assert meter("tpu", (), tmp_path) is None


def test_an_estimate_is_power_times_time_times_pue() -> None:
    config = override(RunConfig(), {"energy.pue": 1.5, "energy.grams_per_kwh": 100.0})
    found = of_run(config, {"seconds": 3600.0}, H100, None)
    assert found is not None
    # Half of 4 x 700 W x 1 h x 1.5
    assert found.joules == pytest.approx(2.1 * 3.6e6)
    assert found.grams == pytest.approx(210.0)
    assert found.by == "estimate: 4 NVIDIA H100 80GB HBM3 at 700 W, PUE 1.5"
    cpu = {"device_kind": "cpu", "device_count": 1}
    of_cores = of_run(RunConfig(), {"seconds": 10.0}, cpu, 3)
    assert of_cores is not None
    assert of_cores.joules == pytest.approx(30 * CORE_WATTS)
    given = of_run(override(RunConfig(), {"energy.watts": 5.0}), {"seconds": 10.0}, cpu, 3)
    assert given is not None
    assert given.joules == pytest.approx(150)
    # Nothing is made up: no power is published of v5e, and nobody knows the cores.
    assert of_run(RunConfig(), {"seconds": 1.0}, {"device_kind": "TPU v5e"}, None) is None
    assert of_run(RunConfig(), {"seconds": 1.0}, cpu, None) is None
    assert of_run(RunConfig(), {}, H100, None) is None


def test_what_a_meter_counted_adds_up_and_wins(tmp_path, base) -> None:
    run = record(base, tmp_path, 2.0, **H100)
    run.write_status("running", joules=40.0, joules_by="NVML")
    run.write_status("running", joules=20.0, joules_by="NVML")
    run.write_status("done")  # one without a meter forgets nothing
    row = tables.table([run]).iloc[0]
    assert row.joules == 60
    assert row.joules_by == "NVML"
    assert row.joules_per_unit == pytest.approx(60 / row.amount)
    assert row.grams_co2 == pytest.approx(60 / 3.6e6 * 475)


def test_energy_names_no_run(base: RunConfig) -> None:
    other = override(base, {"energy.watts": 9.0, "energy.pue": 1.2, "energy.grams_per_kwh": 1.0})
    assert fingerprint(other) == fingerprint(base)
    with pytest.raises(UserError, match=r"energy\.pue=0\.5 must be at least 1"):
        check_ranges(override(base, {"energy.pue": 0.5}))


def test_a_plan_has_a_budget_in_joules(tmp_path) -> None:
    table = runs()
    # The smaller half wastes nine tenths on its beginnings.
    wasted = (table.flops < table.flops.median()) * 9.0 + 1
    joules = table.flops * wasted / 2e9
    assert flops_per_joule(table) is None
    assert flops_per_joule(table.assign(joules=joules)) == pytest.approx(2e9)
    found = fit(table, "chinchilla", Options(bootstrap=30))
    (tmp_path / "fit.json").write_text(found.to_json())
    asked = PlanRequest(fit=str(tmp_path), joules=1e11)
    with pytest.raises(UserError, match="give --flops_per_joule"):
        plan_command(asked)
    known = dataclasses.replace(found, flops_per_joule=2e9)
    (tmp_path / "fit.json").write_text(known.to_json())
    by_energy = plan_command(asked)
    by_flops = plan_command(PlanRequest(fit=str(tmp_path), flops=2e20))
    assert by_energy.plan is not None
    assert by_flops.plan is not None
    assert by_energy.plan.params == by_flops.plan.params
    assert "1e+11 J at 2e+09 FLOPs a joule" in by_energy.text
    with pytest.raises(UserError, match="give --flops, the training budget, or --joules"):
        plan_command(PlanRequest(fit=str(tmp_path)))
    with pytest.raises(UserError, match="goes with --joules"):
        plan_command(PlanRequest(fit=str(tmp_path), flops=1e18, flops_per_joule=1.0))
