"""A branch of a trunk is its run alone: the same lines, the same parameters."""

import threading

import jax
import numpy as np
import pytest
from reading import final_state, lines

from scaling.executors.branching import jobs, shared_steps, trunks
from scaling.executors.jobs import Job, run_job
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.train.checkpoint import Checkpoints

STEPS = (4, 6, 8, 10, 12)
WSD = {
    "optim.schedule": "wsd",
    "optim.warmup_fraction": None,
    "optim.warmup_steps": 2,
    "optim.decay_fraction": 0.25,
    "optim.ema_decay": 0.5,
    "train.steps_per_call": 2,
}


@pytest.fixture(scope="module")
def configs(tiny):
    return [tiny(WSD | {"train.steps": steps}) for steps in STEPS]


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    for config in configs:
        run_job(Job((config,)), workdir, devices=jax.devices()[:1], quiet=True)
    return workdir


def job_of(configs):
    (trunk,) = trunks(configs)
    return trunk, jobs([trunk])[0]


def same(config, one, two):
    a, b = (RunDirectory.open(config, workdir) for workdir in (one, two))
    assert lines(a) == lines(b)
    jax.tree.map(np.testing.assert_array_equal, final_state(a), final_state(b))


@pytest.mark.slow
def test_five_lengths_from_one_trunk_are_five_runs(configs, alone, tmp_path):
    trunk, job = job_of(configs)
    assert trunk.config.train.steps == 12
    (result,) = run_job(job, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert result.status == "done"
    for config in configs[:-1]:
        run = RunDirectory.open(config, tmp_path)
        assert run.status()["state"] == "stopped"
        assert run.status()["step"] == shared_steps(config)
        assert max(line["step"] for line in lines(run)) <= shared_steps(config)
        run_job(Job((config,)), tmp_path, devices=jax.devices()[:1], quiet=True)
        # The steps before are the trunk's.
        assert [start.step for start in run.starts()] == [shared_steps(config)]
    for config in configs:
        same(config, alone, tmp_path)
    rows = table(tmp_path)
    trunk_name = RunDirectory.open(trunk.config, tmp_path).path.name
    assert list(rows["branched_from"].dropna()) == [trunk_name] * 4


@pytest.mark.slow
def test_a_trunk_that_was_stopped_leaves_its_branches_all_the_same(configs, alone, tmp_path):
    """Stopped before any branch and started again; one branch was already under way alone."""
    _, job = job_of(configs)
    stop = threading.Event()
    stop.set()
    (result,) = run_job(job, tmp_path, devices=jax.devices()[:1], stop=stop, quiet=True)
    assert result.status == "stopped"
    run_job(Job((configs[1],)), tmp_path, devices=jax.devices()[:1], quiet=True)
    run_job(job, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert RunDirectory.open(configs[1], tmp_path).branch() == {}
    for config in (configs[0], configs[1]):
        run_job(Job((config,)), tmp_path, devices=jax.devices()[:1], quiet=True)
        same(config, alone, tmp_path)


@pytest.mark.slow
def test_a_branch_that_is_held_by_another_process_is_left_to_it(configs, tmp_path):
    _, job = job_of(configs[-2:])
    held = RunDirectory.open(configs[-2], tmp_path)
    with held.lock():
        (result,) = run_job(job, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert result.status == "done"
    with Checkpoints(held.path / "checkpoints", configs[-2]) as checkpoints:
        assert not checkpoints.any()
