"""A tiny run checked on eight CPU devices: what fits, what would, and the numbers' sums."""

import dataclasses
import json
import math

import pytest

from scaling.check import compiled, grid, target
from scaling.check import report as report_lib
from scaling.check.cache import Cache
from scaling.check.propose import Attempt, candidates, propose
from scaling.check.report import Report, as_dict, check
from scaling.check.text import text
from scaling.config import RunConfig, override
from scaling.costs import counts
from scaling.devices import chips, xla_flags
from scaling.devices.meshes import make_mesh
from scaling.errors import ConfigError, UserError
from scaling.studies.study import resolve_planned


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """Data parallel, eight ways; its vocabulary is stated, so no corpus is read."""
    base = {"model.width": 32, "model.heads": 2, "model.depth": 2, "model.vocab": 64}
    lengths = {"data.seq_len": 16, "train.batch_size": 16, "evals.batch_size": 16, "train.steps": 9}
    return resolve_planned(override(RunConfig(), base | lengths | {"mesh.data": 8}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    return Cache(tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def report(config, cache) -> Report:
    return check(config, target.of_devices(), cache)


def test_memory_is_the_state_and_what_the_compiler_adds(report):
    memory = report.compiled.memory
    state = sum(row.bytes_per_device for row in report.table)
    batch = 6 * 2 * 16 * 4  # six arrays, two rows a device
    assert state + batch <= memory.arguments < state + batch + 200  # and the hyper-parameters
    assert state - 200 < memory.aliased <= state  # donated
    assert report.compiled.needs == memory.total > memory.arguments
    assert report.fits  # nothing limits a CPU


def test_gradients_are_reduced_over_data_and_nothing_else_is_large(report):
    gradients = sum(r.bytes_per_device for r in report.table if r.path.startswith("params/"))
    over_data = [t for t in report.traffic if t.axes == ("data",)]
    assert {t.kind for t in report.traffic} == {t.kind for t in over_data} == {"all-reduce"}
    # The tied embedding has two gradients; the sums behind loss and metrics are a few bytes.
    twice = gradients + 4 * 64 * 32
    assert gradients <= sum(t.bytes for t in over_data) < twice + 200


def test_the_bubble_of_a_pipeline_is_said(report):
    assert "bubble" not in text(report)
    fields = {"mesh.stage": 2, "model.pipeline_microbatches": 4}
    staged = dataclasses.replace(report, config=override(report.config, fields))
    assert "20% are the pipeline's bubble" in text(staged)
    assert as_dict(staged)["pipeline_overhead"] == 5 / 4


def test_the_json_says_what_the_text_says(report):
    values = json.loads(json.dumps(as_dict(report)))
    assert values["fits"] is True
    assert values["mesh"] == {"data": 8}
    assert values["bytes_needed"] == report.compiled.needs
    assert values["params"]["total"] == sum(
        math.prod(row["shape"]) for row in values["sharding"] if row["path"].startswith("params/")
    )
    assert f"{values['params']['total']:,} total" in text(report)
    assert text(report).splitlines()[-1].startswith("FITS on 8 x cpu")


@pytest.mark.slow
def test_what_does_not_fit_is_proposed_another_way_to_run(config, report, cache):
    limit = report.compiled.needs - 1
    small = target.of_devices(hbm_bytes=limit)
    over = check(config, small, cache)
    assert over.cached  # the same program, another limit
    assert not over.fits
    assert "DOES NOT FIT" in text(over)
    tried: list[Attempt] = []
    found = propose(over, lambda c: check(c, small, cache), tried.append)
    assert found is tried[-1]
    assert found.changes == {"mesh.data": 1, "mesh.fsdp": 8}
    assert found.flags == "--config.mesh.data=1 --config.mesh.fsdp=8"
    assert found.report.compiled.needs <= limit
    assert found.report.fits


def test_proposals_keep_the_run_and_fill_the_mesh(config, report):
    changes = list(candidates(report))
    assert changes[0] == {"mesh.data": 1, "mesh.fsdp": 8}
    assert changes[-1]["train.microbatches"] == 2  # two rows a device are all there are
    for change in changes:
        changed = override(config, change)
        assert (
            dataclasses.replace(changed, mesh=config.mesh, train=config.train, model=config.model)
            == config
        )
        assert make_mesh(changed.mesh).size == 8


def test_a_proposal_that_does_not_divide_is_passed_over(config, report):
    """A width of 36 does not divide over fsdp=8: the check says so before anything is compiled."""
    over = dataclasses.replace(report, config=override(config, {"model.width": 36}), limit=1.0)

    def divides(config: RunConfig) -> Report:
        return report if config.mesh.fsdp == 1 else check(config, target.of_devices())

    tried: list[Attempt] = []
    found = propose(over, divides, tried.append)
    assert [attempt.fits for attempt in tried] == [False, True]
    assert "mesh.fsdp=8" in tried[0].problem
    assert tried[0].report is None
    assert found is tried[1]
    assert found.changes == {"model.remat": "full"}


def test_what_cannot_fit_ends_without_a_proposal(report):
    def hopeless(config: RunConfig) -> Report:
        return dataclasses.replace(report, config=config, limit=1.0)

    tried: list[Attempt] = []
    assert propose(hopeless(report.config), hopeless, tried.append) is None
    assert len(tried) == len(list(candidates(report)))


def test_the_compilers_overflow_is_read():
    early = (
        "Ran out of memory on HBM, the total memory required for HLO temporaries (16.48G) exceeds"
    )
    message = f"RESOURCE_EXHAUSTED: {early} available HBM (15.75G)."
    assert compiled._overflow(message) == (16.48 * 2**30, 15.75 * 2**30)
    late = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 17.5G of 15.75G hbm."
    assert compiled._overflow(late) == (17.5 * 2**30, 15.75 * 2**30)
    assert compiled._overflow("INTERNAL: something else") is None


# ---- the sweep


def key(config: RunConfig) -> str:
    """Of the program that the compiler would be given."""
    devices = target.of_devices()
    return compiled.lower(config, make_mesh(config.mesh), devices).key


# Everything that is set aside by `shape_of`, each changed.
SAME_PROGRAM = {
    "optim.peak_lr": 0.1,
    "optim.warmup_steps": 3,
    "optim.decay_fraction": 0.5,
    "optim.final_lr_fraction": 0.2,
    "optim.b1": 0.8,
    "optim.b2": 0.99,
    "optim.eps": 1e-5,
    "optim.weight_decay": 0.3,
    "optim.clip_norm": 0.5,
    "train.steps": 17,
    "data.seed": 3,
    "data.unique_tokens": 1_024,
    "evals.every": 2,
    "seed": 5,
}
OTHER_PROGRAM = {"optim.clip_norm": None, "optim.schedule": "wsd", "model.width": 48}


def test_runs_of_one_program_are_compiled_once(config, report):
    others = [override(config, {name: value}) for name, value in SAME_PROGRAM.items()]
    different = [override(config, {name: value}) for name, value in OTHER_PROGRAM.items()]
    asked = []

    def once(config: RunConfig) -> Report:
        asked.append(config)
        return report

    rows = list(grid.check_all([config, *others, *different, different[0]], once))
    assert asked == [config, *different]
    assert [row.shared for row in rows] == [False] + [True] * len(others) + [False] * 3 + [True]
    assert grid.summary(rows) == f"{len(rows)} runs, 4 programs; all fit"
    assert len(grid.as_list(rows)) == len(rows)


def test_runs_of_one_program_really_have_one(config):
    assert key(override(config, SAME_PROGRAM)) == key(config)
    assert key(override(config, OTHER_PROGRAM)) != key(config)


def test_flags_of_the_compiler_make_another_program(config, monkeypatch):
    """They are not in the program's text; only the key tells their results apart."""
    without = key(config)
    monkeypatch.setitem(xla_flags.PRESETS, "none", {"cpu": {"xla_cpu_enable_fast_math": True}})
    assert key(config) != without


def test_a_cache_that_cannot_be_written_loses_nothing(config, report, tmp_path):
    """Its folder would lie below a file."""
    (tmp_path / "file").write_text("")
    nowhere = Cache(tmp_path / "file" / "check")
    nowhere.put("key", report.compiled)
    assert nowhere.get("key") is None
    somewhere = Cache(tmp_path / "check")
    somewhere.put("key", report.compiled)
    assert somewhere.get("key") == report.compiled
    assert [path.name for path in (tmp_path / "check").iterdir()] == ["key.json"]


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_matmuls_of_8_bits_take_their_own_time(config, kind):
    """Of the projections two thirds: forward, and the gradient of what came in."""
    h100 = target.Target("test", [None] * 8, chips.of_device("NVIDIA H100 80GB HBM3"))
    parts = counts.parts_ledger(config)
    plain = report_lib._matmul_seconds(config, parts, h100, 100e12)
    flops = sum(count.matmul for passes in parts.values() for count in passes.values())
    assert plain == pytest.approx(flops / 8 / 100e12)
    rounded = [name for name in parts if name.startswith(("attention/", "mlp/"))]
    forward = sum(parts[name]["forward"].matmul for name in rounded)
    assert sum(parts[name]["backward"].matmul for name in rounded) == 2 * forward
    short = override(config, {"model.matmul": kind})
    saved = 2 * forward * (1 / 100e12 - 1 / 1979e12) / 8
    found = report_lib._matmul_seconds(short, parts, h100, 100e12)
    assert found == pytest.approx(plain - saved)


def test_a_run_that_cannot_be_placed_is_a_row_of_the_sweep(config, report):
    def refuse(config: RunConfig) -> Report:
        if config.mesh.data == 3:
            raise ConfigError("mesh.data=3 needs 3 devices")
        return report

    rows = list(grid.check_all([config, override(config, {"mesh.data": 3})], refuse))
    assert [row.fits for row in rows] == [True, False]
    assert "mesh.data=3 needs 3 devices" in grid.line(rows[1])
    assert grid.summary(rows).endswith("1 do not fit")


# ---- bad input


def test_without_the_tpu_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[tpu\]'"):
        target.prepare("v5e:2x4")


def test_an_unknown_slice_is_refused_before_anything_else():
    with pytest.raises(ConfigError, match='did you mean "v5e:16x16"'):
        target.prepare("v5e:16x15")


def test_a_mesh_that_does_not_fill_the_devices_is_refused_with_both_numbers(config):
    with pytest.raises(ConfigError, match="needs 4 devices, not 8"):
        check(override(config, {"mesh.data": 4}), target.of_devices())
