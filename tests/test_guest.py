"""A guest of another field, of whose family, data and objective nothing under scaling/ knows."""

import threading
from dataclasses import make_dataclass

import flax.linen as nn
import jax
import numpy as np

from scaling import laws
from scaling.check import report, target
from scaling.config import RunConfig, choices, contracts, override, sweep
from scaling.executors import jobs, plan
from scaling.models.layers import Linear
from scaling.objectives.objective import Loss, Rows, Sum
from scaling.records import tables
from scaling.report import report as write_report
from scaling.studies import study

_MODEL = [("family", str, "guest"), ("width", int, 8), ("depth", int, 1), ("remat", str, "none")]
_MODEL += [("dtype", str, "float32"), ("init_scale", float, 1.0)]
_DATA = [("kind", str, "guest"), ("source", str, "beach"), ("seed", int | None, None)]
_DATA += [("corpus", str | None, None), ("unique_units", int | None, None)]
Heap = make_dataclass("Heap", _MODEL, frozen=True)
Sea = make_dataclass("Sea", _DATA, frozen=True, namespace={"unit": "grain", "units_per_example": 3})
Level = make_dataclass("Level", [("name", str, "guest")], frozen=True)


class Network(nn.Module):
    config: Heap

    @nn.compact
    def __call__(self, batch):
        h = Linear(self.config.width, ("inputs", "embed"), "float32", name="into")(batch["sand"])
        return {"slope": Linear(1, ("embed", "outputs"), "float32")(nn.tanh(h))[:, 0]}


class Sand(tuple):
    def take(self, indices, keys=None):
        x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)[indices]
        return {"sand": x, "angle": x.sum(axis=1), "there": np.ones(len(x), np.float32)}


def rows(outputs, batch):
    error = (outputs["slope"] - batch["angle"]) ** 2 * (there := batch["there"])
    return Rows(error, {}, {"loss": Sum(error, there), "tilt": Sum(error**0.5 * there, there)})


FORM = {"sand": ((3,), "float32"), "angle": ((), "float32"), "there": ((), "float32")}
SAND, OUT, ALL = Sand(range(64)), frozenset({"slope"}), frozenset(FORM)
FACTS, TILT = contracts.Facts("pebbles", 64, 64), contracts.Metric("tilt of the heap", "deg")
METRICS = {"loss": contracts.Metric("misfit", "deg²"), "tilt": TILT}
GUESTS = {
    "model": contracts.Family(Heap, Network, frozenset({"sand"}), OUT),
    "data": contracts.Kind(Sea, ALL, ("there",), lambda *_: FACTS, lambda *_: SAND, lambda _: FORM),
    "objective": contracts.Objective(Level, lambda config: Loss(rows), OUT, ALL, METRICS),
}


def test_a_guest_is_served(monkeypatch, tmp_path):
    for group, record in GUESTS.items():
        monkeypatch.setitem(choices.registry(group), "guest", record)
    base, stop, devices = RunConfig(Heap(), Sea(), Level()), threading.Event(), jax.devices()
    axes = {"train.steps": (12, 16, 20, 28), "seed": (0, 1), "optim.schedule": ["wsd"]}
    heaps = sweep.Study("heaps", base, sweep.grid(axes), x="grains", law="power")
    runs, one = study.runs(heaps), {"workdir": tmp_path, "devices": devices[:1], "quiet": True}
    stop.set()
    assert jobs.run_job(jobs.Job((runs[0],)), stop=stop, **one)[0].status == "stopped"
    planned = plan.plan(runs, tmp_path, pack="2", devices=devices[:1])
    assert (planned.flops_saved > 0, max(len(job.configs) for job in planned.jobs)) == (True, 2)
    done = [result.status for job in planned.jobs for result in jobs.run_job(job, **one)]
    table = tables.table(tmp_path)
    assert {*done, *table["status"], *table["unit"]} == {"done", "grain"}
    assert laws.fit(table[table["tilt"] > 0], "power", laws.Options(x="grains", bootstrap=0)).n == 8
    mesh = study.resolve(override(runs[0], {"mesh.data": 2, "mesh.fsdp": 2}))
    checked = report.check(mesh, target.of_devices(devices[:4]))
    (wide,) = jobs.run_job(jobs.Job((mesh,)), tmp_path / "mesh", devices=devices[:4], quiet=True)
    assert (checked.fits, checked.ledger.matmul > 0, wide.status) == (True, True, "done")
    page = write_report(tmp_path, study=heaps).read_text()
    assert [w in page for w in ("grain", "tilt of the heap", "nats", "token")] == [1, 1, 0, 0]
