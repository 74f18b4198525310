"""Packed training: each member's directory is the one that the run alone would have left."""

import json
import math
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from reading import final_state, lines

from scaling.config import override, to_dict
from scaling.config.sweep import grid
from scaling.errors import FAILED, RESUME_ME
from scaling.executors.jobs import Job, each
from scaling.executors.local import run_local
from scaling.executors.pods import desk
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.packed import train_packed
from scaling.train.progress import Progress

BASE = {"train.checkpoint_every": 4, "evals.batches": 1}
# Its second update sees parameters of 1e30: not finite.
DIVERGES = {"optim.peak_lr": 1e30}
FEW = [
    {},
    {"optim.peak_lr": 1e-3, "optim.weight_decay": 0.0, "seed": 1},
    DIVERGES,
    {"train.steps": 6, "optim.b1": 0.8, "data.unique_tokens": 160, "model.init_scale": 0.5},
]


def alone(configs, workdir) -> None:
    for config in configs:
        train(config, workdir, devices=jax.devices()[:1], quiet=True)


def statuses(outcomes) -> list[str]:
    return [getattr(outcome, "status", repr(outcome)) for outcome in outcomes]


def close(ours: object, theirs: object) -> bool:
    """Equal, and floats to 1e-5 of float32: other programs round otherwise."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-7)
    return ours == theirs


def assert_same_run(config, ours_in, theirs_in) -> None:
    """The same files with the same contents, wall-clock and place aside."""
    ours, theirs = (RunDirectory.open(config, workdir) for workdir in (ours_in, theirs_in))
    for line, expected in zip(lines(ours), lines(theirs), strict=True):
        assert line.keys() == expected.keys()
        wrong = {k: (line[k], expected[k]) for k in line if not close(line[k], expected[k])}
        assert not wrong, (line["step"], line["split"], wrong)
    status, expected = ours.status(), theirs.status()
    for name in ("state", "step", "steps"):
        assert status.get(name) == expected.get(name)
    reason = status.get("reason") or ""  # names the directory, for the command that looks into it
    assert reason.replace(str(ours_in), str(theirs_in)) == (expected.get("reason") or "")
    records = [run.record() for run in (ours, theirs)]
    for record in records:
        for name in ("created", "provenance", "start", "starts"):
            record.pop(name, None)
        del record["config"]["mesh"]
    assert records[0] == records[1]
    steps = [sorted(p.name for p in (run.path / "checkpoints").iterdir()) for run in (ours, theirs)]
    assert steps[0] == steps[1]
    if steps[0]:
        for leaf, wanted in zip(final_state(ours), final_state(theirs), strict=True):
            # Of the array as a whole: Adam divides a gradient by its own size, so that an element
            # whose gradient is all rounding moves as far as any other.
            norm = np.linalg.norm(np.float64(wanted))
            assert np.linalg.norm(np.float64(leaf) - wanted) <= 1e-5 * norm


@pytest.fixture(scope="module")
def few(tiny, tmp_path_factory):
    """Four runs that share a program, each trained alone."""
    configs, workdir = [tiny(BASE | fields) for fields in FEW], tmp_path_factory.mktemp("alone")
    alone(configs, workdir)
    return configs, workdir


@pytest.mark.slow
@pytest.mark.parametrize("form", ["loop", "vmap"])
def test_packed_is_alone(few, tmp_path, form):
    """Seeds, learning rates, lengths and data of their own; one diverges, and stops no other."""
    configs, expected = few
    one = jax.devices()[:1]
    outcomes = train_packed(configs, tmp_path, devices=one, quiet=True, form=form)
    assert statuses(outcomes) == ["done", "done", "diverged", "done"]
    for config in configs:
        assert_same_run(config, tmp_path, expected)
    # A study that is not packed finds them done.
    before = {c.seed: RunDirectory.open(c, tmp_path).metrics() for c in configs}
    results = run_local(each(configs), tmp_path, workers=1)
    assert statuses(results) == ["done", "done", "diverged", "done"]
    assert {c.seed: RunDirectory.open(c, tmp_path).metrics() for c in configs} == before


@pytest.mark.exhaustive
def test_stopped_and_continued_alone_and_packed(few, tmp_path):
    """Stopped after one call each, packed, then one of them alone; then all packed on two devices.

    The members then stand at different steps, and go on from checkpoints of either loop.
    """
    configs, expected = few
    configs = [configs[0], configs[3]]
    stop, one = threading.Event(), jax.devices()[:1]
    stop.set()
    outcomes = train_packed(configs, tmp_path, devices=one, stop=stop, quiet=True)
    assert [(outcome.status, outcome.step) for outcome in outcomes] == [("stopped", 1)] * 2
    assert train(configs[0], tmp_path, devices=one, stop=stop, quiet=True).step == 2
    assert RunDirectory.open(configs[0], tmp_path).status()["state"] == "stopped"
    outcomes = train_packed(configs, tmp_path, devices=jax.devices()[:2], quiet=True)
    assert statuses(outcomes) == ["done"] * 2
    starts = RunDirectory.open(configs[0], tmp_path).starts()
    made_by = [(s.step, s.provenance["device_count"], s.provenance.get("members")) for s in starts]
    assert made_by == [(0, 1, 2), (1, 1, None), (2, 2, 2)]
    for config in configs:
        assert_same_run(config, tmp_path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("others", ["go on", "are finished"])
def test_a_member_that_was_cut_off_at_its_last_step_ends(few, tmp_path, others):
    """Its last state is on disk, its status is not; of one, the last evaluation is missing, too."""
    configs, expected = few
    configs = [configs[0], configs[1], configs[3]]
    shutil.copytree(expected, tmp_path, dirs_exist_ok=True)
    runs = [RunDirectory.open(config, tmp_path) for config in configs]
    for run in runs:
        run.write_status("running", step=6)
    metrics = pathlib.Path(runs[2].path / "metrics.jsonl")
    written = metrics.read_text().splitlines(keepends=True)
    assert json.loads(written[-1])["split"] == "val"
    metrics.write_text("".join(written[:-1]))
    if others == "go on":
        shutil.rmtree(runs[0].path)
    outcomes = train_packed(configs, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert statuses(outcomes) == ["done"] * 3
    for config in configs:
        assert_same_run(config, tmp_path, expected)


@pytest.mark.slow
def test_a_member_that_fails_ends_alone(few, tmp_path):
    """One is locked by another process; the metrics of another lead to a folder that is gone."""
    configs, expected = few
    locked, broken = (RunDirectory.open(c, tmp_path) for c in configs[:2])
    broken.path.mkdir(parents=True)
    pathlib.Path(broken.path / "metrics.jsonl").symlink_to(tmp_path / "gone" / "metrics.jsonl")
    with locked.lock():
        outcomes = train_packed(configs, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert "in use" in str(outcomes[0])
    assert "gone: the folder" in str(outcomes[1])
    assert broken.status()["state"] == "failed"
    assert statuses(outcomes[2:]) == ["diverged", "done"]
    assert_same_run(configs[3], tmp_path, expected)


@pytest.mark.slow
def test_a_branch_of_a_member_begins_as_a_run_of_its_own(tiny, tmp_path):
    """With its own size, not that of the longer run that it leaves."""
    schedule = {"optim.schedule": "constant", "optim.warmup_steps": 2, "evals.batches": 1}
    trunk, branch = (tiny(BASE | schedule | {"train.steps": steps}) for steps in (6, 4))
    one = jax.devices()[:1]
    train_packed([trunk], tmp_path, devices=one, quiet=True, branches=[{3: [branch]}])
    run, of = (RunDirectory.open(config, tmp_path) for config in (branch, trunk))
    assert run.record()["size"] == study.size(branch)
    assert run.branch() == {"trunk": of.path.name, "step": 3}
    assert run.status()["state"] == "stopped"
    assert lines(run) == [line for line in lines(of) if line["step"] <= 3]


def test_runs_of_other_programs_are_refused(tiny, tmp_path):
    configs = [tiny(), tiny({"model.width": 32})]
    outcomes = train_packed(configs, tmp_path, quiet=True)
    assert all("cannot be packed" in str(outcome) for outcome in outcomes)


@pytest.fixture(scope="module")
def sixteen(tiny, tmp_path_factory):
    """Sixteen runs, one of which diverges, each trained alone."""
    axes = {
        "optim.peak_lr": (1e-3, 2e-3, 3e-3, 4e-3),
        "optim.weight_decay": (0.0, 0.1),
        "seed": (0, 1),
    }
    fields = [BASE | o for o in grid(axes)]
    configs, workdir = [tiny(o) for o in fields[:-1]], tmp_path_factory.mktemp("sixteen")
    configs.append(tiny(fields[-1] | DIVERGES))
    alone(configs, workdir)
    return configs, workdir


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("form", "devices"), [("loop", 1), ("loop", 8), ("vmap", 1), ("vmap", 8)], ids=str
)
def test_sixteen_packed_are_alone(sixteen, tmp_path, form, devices):
    """On one device, and over trial 4 x data 2 of eight; also when killed on the way."""
    configs, expected = sixteen
    if devices == 8:
        configs = [override(config, {"mesh.trial": 4}) for config in configs]
    outcomes = train_packed(
        configs, tmp_path, devices=jax.devices()[:devices], quiet=True, form=form
    )
    assert statuses(outcomes) == ["done"] * 15 + ["diverged"]
    for config in configs:
        assert_same_run(config, tmp_path, expected)


SCRIPT = """
import json, sys
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from scaling.config import from_dict
from scaling.train.packed import train_packed
configs = [from_dict(values) for values in json.loads(sys.argv[1])]
train_packed(configs, sys.argv[2], devices=jax.devices()[:1], quiet=True)
"""


@pytest.mark.slow
def test_a_group_that_is_killed_goes_on(tiny, tmp_path):
    """SIGKILL in the middle of the steps; the same call ends every member as if nothing was."""
    fields = {"train.steps": 60, "train.checkpoint_every": 3, "evals.every": 20, "evals.batches": 1}
    configs = [tiny(fields | {"seed": seed, "train.steps": 60 - 20 * seed}) for seed in (0, 1)]
    one = jax.devices()[:1]
    train_packed(configs, tmp_path / "whole", devices=one, quiet=True)
    told = json.dumps([to_dict(config) for config in configs])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, told, str(tmp_path / "cut")],
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
    )
    run = RunDirectory.open(configs[1], tmp_path / "cut")
    while process.poll() is None and len(run.metrics()) < 20:
        time.sleep(0.001)
    assert process.poll() is None, "it ended too early"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.status()["state"] == "stopped"
    outcomes = train_packed(configs, tmp_path / "cut", devices=one, quiet=True)
    assert statuses(outcomes) == ["done", "done"]
    for config in configs:
        assert_same_run(config, tmp_path / "cut", tmp_path / "whole")


# ---- several processes, as on the hosts of a slice


def hosts(job, workdir, devices=2, count=2) -> list[subprocess.Popen]:
    """What each host of a slice runs; they find each other as tasks of Slurm do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    slurm = {"SLURM_JOB_ID": str(port), "SLURM_NTASKS": str(count)}
    slurm |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": str(count)}
    slurm |= {"JAX_NUM_CPU_DEVICES": str(devices)}
    path = desk.give(job, workdir)
    return [
        subprocess.Popen(
            [sys.executable, "launch.py", "work", f"--job={path}"],
            cwd=pathlib.Path(__file__).parents[2],
            env=os.environ | slurm | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(count)
    ]


def ends(processes) -> tuple[list[int], list[str]]:
    """Exit codes, and what was printed; whoever hangs is ended."""
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def ended_files(job, workdir) -> list[str]:
    """How the job ended, by each process that wrote it down."""
    folder = desk.job_file(job, workdir).parent
    return [path.read_text() for path in sorted(folder.glob("*.ended-*.json"))]


@pytest.mark.exhaustive
def test_two_hosts_stop_together_and_one_goes_on(tiny, tmp_path):
    """Four members on the devices of two processes, each with its own; one is told to stop."""
    rhythm = {"train.steps": 60, "evals.every": 30, "train.checkpoint_every": 20}
    configs = [tiny(BASE | rhythm | fields) for fields in FEW[:3]]
    configs.append(tiny(BASE | rhythm | FEW[3] | {"train.steps": 40}))
    alone(configs, tmp_path / "alone")
    job, workdir = Job(tuple(configs)), tmp_path / "hosts"
    processes = hosts(job, workdir)
    run = RunDirectory.open(configs[0], workdir)
    while all(process.poll() is None for process in processes) and len(run.metrics()) < 3:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = ends(processes)
    assert codes == [RESUME_ME] * 2, said
    results = desk.read_ended(job, workdir)
    assert statuses(results) == ["stopped", "stopped", "diverged", "stopped"]
    assert 3 <= run.status()["step"] < 40
    outcomes = train_packed(configs, workdir, devices=jax.devices()[:1], quiet=True)
    assert statuses(outcomes) == ["done", "done", "diverged", "done"]
    for config in configs:
        assert_same_run(config, workdir, tmp_path / "alone")


@pytest.mark.exhaustive
def test_what_one_host_meets_all_answer(few, tmp_path):
    """The batch lies across two processes; process 0 meets a lock, and a file in the way."""
    configs, expected = few
    configs = [override(config, {"mesh.data": 4}) for config in configs]
    locked, broken = (RunDirectory.open(c, tmp_path) for c in configs[:2])
    broken.path.mkdir(parents=True)
    (broken.path / "tensorboard").write_text("in the way")
    job = Job(tuple(configs))
    with locked.lock():
        codes, said = ends(hosts(job, tmp_path))
    assert codes == [FAILED] * 2, said
    told = ended_files(job, tmp_path)
    assert len(told) == 2
    assert told[0] == told[1]
    results = desk.read_ended(job, tmp_path)
    assert statuses(results) == ["failed", "failed", "diverged", "done"]
    assert [r.failure for r in results[:2]] == ["busy", "config"]
    assert "tensorboard" in str(results[1].reason)
    assert broken.status()["state"] == "failed"
    for config in configs[2:]:
        assert_same_run(config, tmp_path, expected)


def test_progress_says_that_the_steps_are_of_all_runs_and_no_loss_before_there_is_one(capsys):
    with Progress("packed", 84, runs=6) as progress:
        progress.update(84, None, 2.0, None)
    assert "packed: 84/84 steps of 6 runs  train loss -  2 steps/s" in capsys.readouterr().err
