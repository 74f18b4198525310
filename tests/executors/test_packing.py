"""Which runs are packed together, and that an executor trains them so."""

import jax
import pytest

from configs import vision
from scaling.check import memory
from scaling.config import from_dict, override
from scaling.errors import UserError
from scaling.executors import packing
from scaling.executors.jobs import Branch, Job, each
from scaling.executors.local import run_local
from scaling.executors.plan import plan
from scaling.records import RunDirectory, timing
from scaling.studies import study

ONE = jax.devices("cpu")[:1]


@pytest.fixture(scope="module")
def runs(tiny):
    """Six of one program, of three lengths; one wider; two that a group cannot train."""
    alike = [tiny({"seed": s, "train.steps": n}) for s in (0, 1) for n in (4, 12, 8)]
    apart = [{"model.width": 32}, {"train.profile_start": 2}, {"train.spike_z": 8.0}]
    return [*alike, *map(tiny, apart)]


def sizes(jobs) -> list[int]:
    return sorted(len(job.configs) for job in jobs)


def test_alike_runs_are_one_job_neighbours_in_length(runs):
    jobs = packing.pack(each(runs), None, ONE)
    assert sizes(jobs) == [1, 1, 1, 6]
    assert {c.seed for job in jobs for c in job.configs} == {0, 1}
    jobs = packing.pack(each(runs[:6]), 2, ONE)
    assert [[c.train.steps for c in job.configs] for job in jobs] == [[12, 12], [8, 8], [4, 4]]
    # No process is left without work.
    assert sizes(packing.pack(each(runs[:6]), None, ONE, processes=4)) == [1, 1, 2, 2]
    # A packed job reads back from JSON.
    assert [Job.from_dict(job.to_dict()) for job in jobs] == jobs


def test_branches_and_what_waits_for_a_trunk_keep_their_order(runs):
    trunk = Job(runs[:1], branches=(("a", Branch(3, runs[2])),))
    waiting = [Job(runs[2:3], trunks=("a",)), Job(runs[3:4], trunks=("b",))]
    first, second = packing.pack([trunk, Job(runs[1:2]), *waiting], None, ONE)
    assert first.branches == trunk.branches
    assert not first.trunks
    assert second.trunks == ("a", "b")


def test_the_group_is_as_large_as_memory_allows(runs, monkeypatch, tmp_path):
    """Of a loop, the states of all and the activations of one; vmapped, everything of all."""
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path))  # nothing was measured there
    one = memory.estimate_bytes(runs[0], 1, "cpu")
    state = one.params + one.optimizer + one.batch
    room = (one.temporaries + 3.5 * state) / 0.8
    monkeypatch.setattr(packing, "device_bytes", lambda device, count: room)
    assert packing.largest(runs[0], ONE) == 3
    monkeypatch.setattr(packing.trials, "form_of", lambda platform: "vmap")
    assert packing.largest(runs[0], ONE) == max(1, int(0.8 * room / one.total))
    # Every device that no mesh axis asks for has members of its own.
    assert packing.largest(runs[0], jax.devices("cpu")[:4]) == 4 * packing.largest(runs[0], ONE)
    fixed = override(runs[0], {"mesh.data": 4})
    assert packing.largest(fixed, jax.devices("cpu")[:4]) < 4 * packing.largest(runs[0], ONE)


def test_convolutions_are_alone_in_a_loop_and_no_others(monkeypatch):
    """In the body of a loop on a CPU they take many times as long."""
    monkeypatch.setattr(packing, "device_bytes", lambda device, count: None)
    convolved = study.resolve(vision.get_config("debug"))
    dense = study.resolve(override(from_dict(vision.get_config("debug")), {"model.family": "mlp"}))
    assert (packing.largest(convolved, ONE), packing.largest(dense, ONE)) == (1, 16)
    assert packing.largest(convolved, jax.devices("cpu")[:4]) == 4  # a device each
    monkeypatch.setattr(packing.trials, "form_of", lambda platform: "vmap")
    assert packing.largest(convolved, ONE) == 64


def test_what_was_measured_counts_before_what_is_estimated(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path))
    one = memory.estimate_bytes(runs[0], 1, "cpu")
    state = one.params + one.optimizer + one.batch
    room = (one.temporaries + 6.5 * state) / 0.8
    monkeypatch.setattr(packing, "device_bytes", lambda device, count: room)
    assert packing.largest(runs[0], ONE) == 6
    # Two members needed as much as the states of four: their activations are of two states more.
    cost = timing.Cost(
        **{"program": timing.program(runs[0]), "device_kind": "cpu", "devices": 1, "cores": 1},
        **{"members": 2, "steps": 4, "step_s": 1.0, "compile_s": 1.0, "eval_s": None},
        **{"other_s": 0.0, "device_bytes": int(one.temporaries + 4 * state)},
        **{"flops_per_step": 1.0, "mfu": None},
    )
    timing.write(cost, RunDirectory(tmp_path / "a"))
    assert packing.largest(runs[0], ONE) == 4
    monkeypatch.setattr(packing.trials, "form_of", lambda platform: "vmap")
    assert packing.largest(runs[0], ONE) == int(0.8 * room / (cost.device_bytes / 2))


@pytest.mark.slow
def test_a_sweep_trains_its_groups(runs, tmp_path):
    chosen = [runs[0], runs[3], runs[6]]
    planned = plan(chosen, tmp_path, pack="auto", devices=ONE)
    assert sizes(planned.jobs) == [1, 2]
    assert "2 runs are packed into 1 programs" in planned.text()
    results = run_local(planned.jobs, tmp_path, workers=1, devices=ONE)
    assert [result.status for result in results] == ["done"] * 3
    assert all(RunDirectory.open(config, tmp_path).is_done for config in chosen)
    # What has ended is packed with nothing.
    assert sizes(plan(chosen, tmp_path, pack="auto", devices=ONE).jobs) == [1, 1, 1]
    with pytest.raises(UserError, match="--pack=many must be"):
        plan(chosen, tmp_path, pack="many")
