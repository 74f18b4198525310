"""Failures by class, the answers to them, and the scheduler that gives them."""

import email.message
import errno
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.error

import jax
import pytest

from scaling import files
from scaling.config import fingerprint, override, run_name, to_dict
from scaling.errors import BusyError, ConfigError, DiskFullError, UserError
from scaling.executors import admission, disk, oom, scheduler
from scaling.executors.healing import Bounds, answer, as_recorded, less_memory
from scaling.executors.jobs import Ended, Job
from scaling.executors.local import run_local
from scaling.executors.result import Result
from scaling.records import RunDirectory, timing
from scaling.records.status import status_lines
from scaling.records.tables import table
from scaling.report import report
from scaling.train.failures import classify
from scaling.train.loop import train

REPOSITORY = pathlib.Path(__file__).parents[2]


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def http_error(code: int) -> Exception:
    return urllib.error.HTTPError("http://store", code, "no", email.message.Message(), None)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        # tensorstore's word for a full disk is that of a full device.
        (ValueError("RESOURCE_EXHAUSTED: ... write: No space left on device"), "disk"),
        (caused(RuntimeError("save"), OSError(errno.EDQUOT, "quota")), "disk"),
        (DiskFullError("cannot write"), "disk"),
        (BusyError("is in use"), "busy"),
        (ConfigError("mesh.fsdp=3"), "config"),
        (OSError(errno.ESTALE, "Stale file handle"), "lost"),
        # As our own writes say it: a UserError that names the file.
        (caused(UserError("cannot write a"), OSError(errno.ESTALE, "Stale file handle")), "lost"),
        (caused(UserError("cannot write a"), OSError(errno.EACCES, "Denied")), "config"),
        (RuntimeError("UNAVAILABLE: connection closed"), "lost"),
        (ValueError("UNKNOWN: read: Input/output error [os_error_code='5']"), "lost"),
        (http_error(503), "lost"),
        (http_error(401), "error"),
        (ZeroDivisionError(), "error"),
    ],
)
def test_what_was_raised_says_what_kind_of_failure_it_is(error, failure):
    assert classify(error) == failure


def test_less_memory_is_a_chain_that_ends_and_changes_no_run(tiny):
    """Every answer is the same run, is a config that resolves, and the chain has an end."""
    config, seen = tiny({"train.batch_size": 12}), []
    while changed := less_memory(config, devices=2):
        seen += changed.items()
        assert fingerprint(override(config, changed)) == fingerprint(config)
        config = override(config, changed)
        assert config.train.batch_size % (config.train.microbatches * 2) == 0
    assert seen == [("train.microbatches", 2), ("model.remat", "dots"), ("model.remat", "full")]


@pytest.mark.parametrize(
    ("mesh", "devices"),
    [
        ({"mesh.fsdp": 4}, 1),
        ({"mesh.data": 2, "mesh.replica": 2}, 1),
        ({}, 4),
        ({"mesh.fsdp": 2}, 4),
    ],
)
def test_a_batch_is_cut_no_smaller_than_the_devices_that_are_known_of(tiny, mesh, devices):
    """By the mesh where the place does not say how many there are, else by both."""
    config = tiny({"train.batch_size": 8} | mesh)
    assert less_memory(config, devices) == {"train.microbatches": 2}
    config = override(config, {"train.microbatches": 2})
    assert less_memory(config, devices) == {"model.remat": "dots"}


def test_of_the_study_and_the_record_what_needs_less_memory_is_taken(tiny):
    def merged(study: dict, recorded: dict, devices: int = 1) -> tuple[int, str]:
        config = as_recorded(tiny({"train.batch_size": 16} | study), recorded, devices)
        return config.train.microbatches, config.model.remat

    two, four = {"train.microbatches": 2}, {"train.microbatches": 4}
    assert merged({}, two) == (2, "none")
    assert merged(four, two) == (4, "none")
    assert merged({"model.remat": "full"}, two | {"model.remat": "dots"}) == (2, "full")
    assert merged({"model.remat": "dots"}, four | {"model.remat": "full"}) == (4, "full")
    # Found on fewer devices: on more the pieces must be larger.
    assert merged({}, {"train.microbatches": 8}, devices=2) == (8, "none")
    assert merged({}, {"train.microbatches": 8}, devices=8) == (2, "none")
    assert merged(four, {"train.microbatches": 8}, devices=8) == (4, "none")


def test_a_bound_counts_attempts_that_made_no_step(tiny):
    config = tiny()
    bounds = Bounds(attempts=3)
    said = [answer("lost", 1, config, fruitless=n, bounds=bounds).action for n in (1, 2, 3)]
    assert said == ["again", "again", "give up"]
    assert answer("config", 1, config).action == "give up"
    assert answer("error", 1, config).action == "give up"
    # A group that dies twice at the same step, or lacks memory, is tried in halves.
    assert answer("lost", 4, config).action == "again"
    assert answer("lost", 4, config, fruitless=2).action == "halves"
    assert answer("memory", 4, config).action == "halves"


class Script:
    """A place where runs end as a script says, attempt by attempt; the last entry stays."""

    slots: int | None = 2

    def __init__(self, workdir, of_run, devices=1):
        self.workdir, self.of_run, self.started = workdir, of_run, []
        self.jobs, self._devices = {}, devices

    def devices(self, job: Job) -> int:
        return self._devices

    def start(self, number: int, job: Job) -> None:
        self.started.append(tuple(run_name(c) for c in job.configs))
        self.jobs[number] = job

    def wait(self, seconds: float) -> list[Ended]:
        ended = [self.end(number, job) for number, job in self.jobs.items()]
        self.jobs.clear()
        return ended

    def end(self, number: int, job: Job) -> Ended:
        results = []
        for config in job.configs:
            script = self.of_run.get(run_name(config), ["done"])
            state = script.pop(0) if len(script) > 1 else script[0]
            if isinstance(state, int):  # died at that step
                RunDirectory.open(config, self.workdir).write_status("running", step=state)
                return Ended(number, None, death="killed", exit_code=-9)
            failed = state not in ("done", "stopped", "diverged")
            results.append(Result(config, "failed" if failed else state, state, None))
            if failed:
                results[-1] = Result(config, "failed", state, state)
        return Ended(number, tuple(results))

    def stop(self) -> None: ...

    def close(self) -> None: ...


def scripted(tmp_path, jobs, of_run, **bounds):
    place = Script(tmp_path, of_run)
    results = scheduler.run_jobs(jobs, tmp_path, place, bounds=Bounds(**bounds))
    return place, {run_name(r.config): r for r in results}


def test_a_run_that_gets_on_is_never_given_up_and_one_that_does_not_is(tiny, tmp_path):
    on, off = tiny({"seed": 1}), tiny({"seed": 2})
    of_run = {run_name(on): [1, 2, 3, 4, "stopped", "done"], run_name(off): [5, 5]}
    place, results = scripted(tmp_path, [Job((on,)), Job((off,))], of_run, attempts=2)
    assert results[run_name(on)].status == "done"
    assert results[run_name(off)].status == "failed"
    assert "2 attempts in a row made no step" in results[run_name(off)].reason
    assert place.started.count((run_name(on),)) == 6
    assert place.started.count((run_name(off),)) == 2
    attempts = RunDirectory.open(on, tmp_path).attempts()
    assert [a["failure"] for a in attempts] == ["lost"] * 4 + ["preempted"]


def test_one_bad_member_does_not_take_its_group_with_it(tiny, tmp_path):
    group = [tiny({"seed": seed}) for seed in range(5)]
    bad = run_name(group[3])
    place, results = scripted(tmp_path, [Job(tuple(group))], {bad: [7, 7]}, attempts=3)
    assert [results[run_name(c)].status for c in group] == ["done"] * 3 + ["failed", "done"]
    assert (bad,) in place.started


def test_what_healed_a_run_is_known_to_the_next_scheduler(tiny, tmp_path):
    config = tiny()
    seen = []

    class Place(Script):
        def start(self, number, job):
            seen.append(job.configs[0].train.microbatches)
            super().start(number, job)

    of_run = {run_name(config): ["memory", "memory", "done"]}
    scheduler.run_jobs([Job((config,))], tmp_path, Place(tmp_path, of_run))
    assert seen == [1, 2, 4]
    scheduler.run_jobs([Job((config,))], tmp_path, Place(tmp_path, {}))
    assert seen[-1] == 4


def test_the_scheduler_asks_the_place_for_how_many_devices_a_run_has(tiny, tmp_path):
    config = tiny({"train.batch_size": 8})
    place = Script(tmp_path, {run_name(config): ["memory", "memory", "done"]}, devices=4)
    scheduler.run_jobs([Job((config,))], tmp_path, place)
    changed = [a["changed"] for a in RunDirectory.open(config, tmp_path).attempts()]
    assert changed == [{"train.microbatches": 2}, {"model.remat": "dots"}]


def test_what_has_ended_is_reported_and_not_started(tiny, tmp_path):
    done, diverged, left = (tiny({"seed": seed}) for seed in range(3))
    RunDirectory.open(done, tmp_path).write_status("done", step=12)
    RunDirectory.open(diverged, tmp_path).write_status("diverged", step=3, reason="loss is nan")
    place, seen = Script(tmp_path, {}), []
    jobs = [Job((config,)) for config in (done, diverged, left)]
    results = scheduler.run_jobs(jobs, tmp_path, place, on_result=seen.append)
    assert place.started == [(run_name(left),)]
    assert results == [
        Result(done, "done"),
        Result(diverged, "diverged", "loss is nan"),
        Result(left, "done", "done"),
    ]
    assert len(seen) == 3


def test_a_run_that_never_began_is_given_up_where_everyone_finds_it(tiny, tmp_path):
    """As when sbatch refuses it: no process has made its directory."""
    config = tiny()
    scripted(tmp_path, [Job((config,))], {run_name(config): ["config"]})
    run = RunDirectory.open(config, tmp_path)
    assert run.config() == config  # what `train --run` reads
    row = table(tmp_path).iloc[0]
    assert (row["status"], row["attempts"], row["device"]) == ("failed", 1, None)
    assert any(run_name(config) in line and "failed" in line for line in status_lines(tmp_path))
    # The record is of the devices that train it; what is given up later has none.
    run.start(config, {"device_kind": "abacus"})
    run.start(config, {})
    assert run.record()["provenance"]["device_kind"] == "abacus"


def test_a_branch_waits_for_its_trunk_and_runs_alone_if_that_fails(tiny, tmp_path):
    trunk, branch = tiny({"train.steps": 6}), tiny({"train.steps": 12})
    jobs = [Job((branch,), trunks=(run_name(trunk),)), Job((trunk,))]
    place, results = scripted(tmp_path, jobs, {run_name(trunk): ["config"]})
    assert place.started == [(run_name(trunk),), (run_name(branch),)]
    assert results[run_name(branch)].status == "done"


@pytest.mark.slow
def test_a_lock_of_a_living_process_is_waited_for_then_reported(tiny, tmp_path):
    config = tiny()
    run = RunDirectory.open(config, tmp_path)
    with run.lock():
        results = run_local([Job((config,))], tmp_path, workers=1, bounds=Bounds(busy=1.0))
    assert results[0].failure == "busy"
    assert f"in use by process {os.getpid()}" in results[0].reason
    assert not run.attempts()  # its directory is the other's
    assert not (run.path / "status.json").exists()

    def hold() -> None:
        with run.lock():
            held.set()
            time.sleep(2.0)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    (result,) = run_local([Job((config,))], tmp_path, workers=1, devices=jax.devices()[:1])
    thread.join()
    assert result.status == "done"


def test_a_full_disk_is_waited_for_then_named(tiny, tmp_path):
    """A model whose checkpoint no disk has room for; a disk that gets space again is in
    `test_chaos.py`.
    """
    config, other = tiny({"model.width": 2**20, "model.depth": 10_000}), tiny({"seed": 2})
    jobs = [Job((config,)), Job((other,))]
    _, results = scripted(tmp_path, jobs, {run_name(config): ["disk"]}, disk=0.2)
    failed = results[run_name(config)]
    assert failed.status == "failed"
    assert "file system /" in failed.reason
    assert "free" in failed.reason
    assert results[run_name(other)].status == "done"


def test_when_a_full_disk_is_given_up_nothing_waits_for_it_any_more(tiny, tmp_path):
    """Runs that failed otherwise cannot be tried again; what has not begun stays so."""
    huge = {"model.width": 2**20, "model.depth": 10_000}
    full, lost, saved = tiny(huge), tiny({"seed": 2}), tiny({"seed": 3, "train.steps": 11})
    other = tiny({"seed": 4, "train.steps": 10})
    of_run = {run_name(full): ["disk"], run_name(lost): ["lost"], run_name(saved): ["stopped"]}
    stop = threading.Event()
    last = threading.Timer(20.0, stop.set)  # else a sweep that waits for ever would say nothing
    last.start()
    place = Script(tmp_path, of_run)
    place.slots = 3
    results = scheduler.run_jobs(
        [Job((config,)) for config in (full, lost, saved, other)],
        tmp_path,
        place,
        stop=stop,
        bounds=Bounds(disk=0.2),
    )
    last.cancel()
    assert not stop.is_set()
    assert [r.status for r in results] == ["failed", "failed", "stopped", "pending"]
    assert "no space for" in results[1].reason
    assert RunDirectory.open(lost, tmp_path).status()["state"] == "failed"


def test_room_is_what_can_be_had(tmp_path):
    assert disk.has_room(tmp_path, 1 << 20)
    assert not disk.has_room(tmp_path, 1 << 60)
    assert not list(tmp_path.iterdir())
    assert "file system /" in files.space(tmp_path)


def test_the_last_words_of_a_process_without_memory():
    assert oom.says_so("terminate called after throwing an instance of 'std::bad_alloc'")
    assert not oom.says_so("step 3/9 loss 2.1")
    full = "RESOURCE_EXHAUSTED: write [OS error 28: ENOSPC No space left on device]"
    assert not oom.says_so(full)
    assert oom.says_so(f"{full}\nRESOURCE_EXHAUSTED: out of memory allocating 12 bytes")


def test_the_kernels_count_of_processes_killed_for_memory(tmp_path):
    events = tmp_path / "memory.events"  # of a control group, as Documentation/cgroup-v2 has it
    events.write_text("low 0\nhigh 3\nmax 14\noom 5\noom_kill 2\noom_group_kill 1\n")
    assert oom._count(events) == 2
    assert oom._count(tmp_path / "nothing") is None
    assert oom._count(pathlib.Path("/proc/vmstat")) is not None  # the machine's


@pytest.mark.slow
def test_a_run_refused_for_memory_says_so_everywhere(tiny, tmp_path):
    fits, large = tiny({"seed": 3}), tiny({"model.width": 64, "model.mlp_width": 512})
    needed = 0.5 * (estimate(fits) + estimate(large))
    train(fits, tmp_path, devices=jax.devices()[:1], quiet=True)
    for _ in range(2):  # again: it is said once
        (result,) = admission.refused([fits, large], tmp_path, jax.devices()[:1], limit=needed)
    assert result.config == large
    assert result.failure == "config"
    assert "a step needs about" in result.reason
    rows = table(tmp_path).set_index("fingerprint")
    row = rows.loc[fingerprint(large)]
    assert (row["status"], row["reason"], row["attempts"]) == ("failed", result.reason, 1)
    assert rows.loc[fingerprint(fits)]["attempts"] == 0
    assert result.reason in "\n".join(status_lines(tmp_path))
    page = report(tmp_path, out=tmp_path / "report").read_text()
    assert "a step needs about" in page


def test_what_a_program_needed_before_decides_whether_it_fits(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "data"))
    config, device = tiny({"seed": 4}), jax.devices()[0]
    admission.check(config, [device])
    cost = timing.Cost(
        program=timing.program(config),
        device_kind=device.device_kind,
        devices=1,
        cores=None,
        members=1,
        steps=1,
        step_s=1.0,
        compile_s=1.0,
        eval_s=1.0,
        other_s=1.0,
        device_bytes=1 << 60,
        flops_per_step=1.0,
        mfu=None,
    )
    timing.write(cost, RunDirectory.open(config, tmp_path))
    with pytest.raises(UserError, match=r"a step needs about .* TiB"):
        admission.check(config, [device])


def estimate(config) -> float:
    from scaling.check import memory

    return memory.estimate_bytes(config).total


def test_a_run_whose_last_evaluation_is_missing_is_not_done(tiny, tmp_path):
    """As a host that lost power between the lines and the checkpoint can leave it."""
    config = tiny()
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    run = RunDirectory.open(config, tmp_path)
    whole = run.metrics()
    text = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join(text[:-1]))
    run.write_status("running", step=12)
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    assert run.is_done
    assert run.metrics()[-1] == whole[-1]


# Trains a run in a process that may not have the memory of its whole batch.
LIMITED = """
import json, re, resource, sys
import jax
from scaling.config import from_dict
from scaling.executors.jobs import Job
from scaling.executors.local import run_local
small, large = (from_dict(values) for values in json.load(open(sys.argv[1])))
assert run_local([Job((small,))], sys.argv[2], workers=1)[0].status == "done"
now = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[3]),) * 2)
(result,) = run_local([Job((large,))], sys.argv[2], workers=1)
print(result)
sys.exit(result.status != "done")
"""


@pytest.mark.slow
def test_a_run_without_memory_is_healed_and_its_row_says_so(tiny, tmp_path):
    """The address space of the process is limited: XLA is refused the memory of the whole batch."""
    wide = {"model.mlp": "plain", "model.mlp_width": 4096, "data.seq_len": 64, "evals.every": None}
    small = tiny(wide | {"train.batch_size": 2, "train.steps": 1})
    large = tiny(wide | {"train.batch_size": 128, "train.steps": 2})
    (tmp_path / "configs.json").write_text(json.dumps([to_dict(c) for c in (small, large)]))
    workdir = tmp_path / "out"
    limit = int(0.6 * estimate(large))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "configs.json", workdir, str(limit)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunDirectory.open(large, workdir)
    attempts = run.attempts()
    assert {a["failure"] for a in attempts} == {"memory"}
    assert run.changed()["train.microbatches"] > 1
    row = table(workdir).set_index("fingerprint").loc[fingerprint(large)]
    assert row["status"] == "done"
    assert row["healed"] == f"train.microbatches={run.changed()['train.microbatches']}"
    assert row["attempts"] == len(attempts)
    page = report(workdir, out=tmp_path / "report").read_text()
    assert "Runs that were healed" in page
    assert "tried again with train.microbatches=2" in page
    # The mathematics is that of the run with all the memory it wants.
    train(large, tmp_path / "roomy", devices=jax.devices()[:1], quiet=True)
    roomy = RunDirectory.open(large, tmp_path / "roomy").metrics()
    for ours, theirs in zip(run.metrics(), roomy, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
