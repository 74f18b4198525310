"""The run directory is whole after a kill at any moment."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from written import resolved, started

from scaling import files
from scaling.config import fingerprint, override
from scaling.config.provenance import provenance
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.records.tables import curves

# ---- config.json


def test_config_is_read_back_equal(tmp_path):
    config = resolved(model__width=96, seed=3)
    run = started(config, tmp_path)
    assert run.config() == config
    assert run.record()["fingerprint"] == fingerprint(config)
    assert run.path.parent == tmp_path / "runs"


def test_a_restart_that_differs_in_nothing_leaves_the_config_as_it_was(tmp_path):
    run = started(resolved(), tmp_path)
    run.went_on(0)
    before = (run.path / "config.json").read_bytes()
    started(resolved(), tmp_path)
    run.went_on(7)
    assert (run.path / "config.json").read_bytes() == before
    assert [start.step for start in run.starts()] == [0]


def test_a_restart_elsewhere_is_written_down_and_the_ways_before_are_kept(tmp_path):
    config, where = resolved(), {"device_kind": "cpu", "device_count": 1}
    moved = override(config, {"mesh.fsdp": 4, "train.microbatches": 2})
    again = override(config, {"train.microbatches": 8})
    run, facts = started(config, tmp_path), provenance()
    before = run.record()
    run.went_on(0)
    run.start(moved, facts | {"device_kind": "v5e", "device_count": 4})
    assert run.config() == moved
    run.went_on(5)
    run.went_on(3)  # from an earlier checkpoint: the one of step 5 could not be read
    run.start(again, facts | where)
    run.start(config, facts | where)
    run.went_on(9)
    after = run.record()
    assert run.config() == config
    assert {k: after[k] for k in before if k != "start"} == {
        k: before[k] for k in before if k != "start"
    }
    starts = run.starts()
    assert [start.step for start in starts] == [0, 3, None, 9]
    assert [start.execution["train.microbatches"] for start in starts] == [1, 2, 8, 1]
    assert [start.execution["mesh.fsdp"] for start in starts] == [1, 4, 1, 1]
    assert [start.provenance["device_kind"] for start in starts] == ["cpu", "v5e", "cpu", "cpu"]
    assert "seed" not in starts[0].execution
    assert all(start.time for start in starts)


def test_a_record_of_the_first_start_alone_is_read_and_gone_on_with(tmp_path):
    run = started(resolved(), tmp_path)
    record = run.record()
    del record["start"]
    (run.path / "config.json").write_text(json.dumps(record))
    assert [start.step for start in run.starts()] == [0]
    started(override(resolved(), {"train.log_every": 1}), tmp_path).went_on(4)
    assert [(s.step, s.execution["train.log_every"]) for s in run.starts()] == [(0, 10), (4, 1)]


def test_another_run_in_the_directory_is_refused(tmp_path):
    run = started(resolved(), tmp_path)
    with pytest.raises(UserError, match=r"config\.json is of another run"):
        run.start(resolved(seed=1), provenance())
    record = json.loads((run.path / "config.json").read_text())
    record["config"]["optim"]["peak_lr"] = 1.0
    (run.path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="was edited"):
        run.start(resolved(), provenance())


def test_provenance_names_versions_and_neither_host_nor_user():
    facts = provenance()
    assert {"python", "jax", "flax", "optax", "numpy", "scaling"} <= set(facts["versions"])
    assert set(facts) == {"commit", "dirty", "versions"}


# ---- metrics.jsonl

LINES = [
    {"step": step, "split": split, "loss": 5.0 / step, "grad_norm": 0.1 * step}
    for step in range(1, 21)
    for split in (("train", "val") if step % 5 == 0 else ("train",))
]


@pytest.mark.parametrize("cut", [0, 1, 7, 300, 555, 10_000])
@pytest.mark.parametrize("restored", [-1, 0, 5, 20])
def test_resumed_file_equals_the_uninterrupted_one_wherever_the_kill_fell(tmp_path, cut, restored):
    whole = RunDirectory(tmp_path / "whole")
    broken = RunDirectory(tmp_path / "broken")
    for run in (whole, broken):
        run.path.mkdir()
        run.append(*LINES)
    content = (whole.path / "metrics.jsonl").read_bytes()
    # The lines of the restored step are always there: they are appended before its checkpoint.
    least = sum(len(json.dumps(line)) + 1 for line in LINES if line["step"] <= restored)
    (broken.path / "metrics.jsonl").write_bytes(content[: max(cut, least)])

    broken.truncate(restored)
    assert all(line["step"] <= restored for line in broken.metrics())
    for line in LINES:
        if line["step"] > restored:
            broken.append(line)
    assert (broken.path / "metrics.jsonl").read_bytes() == content


def test_a_torn_last_line_is_not_seen_and_a_damaged_one_is_an_error(tmp_path):
    run = RunDirectory(tmp_path)
    run.append(*LINES[:3])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert run.metrics() == LINES[:2]
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl line 3 is damaged"):
        run.metrics()


def test_a_last_line_without_its_newline_is_kept(tmp_path):
    run = RunDirectory(tmp_path)
    run.append(*LINES[:3])
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    run.truncate(3)
    assert path.read_bytes() == whole


def test_what_is_not_finite_stays_readable_json(tmp_path):
    run = RunDirectory(tmp_path)
    run.append({"step": 1, "split": "train", "loss": math.nan, "grad_norm": np.float32(np.inf)})
    stored = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert stored["loss"] == "NaN"
    (line,) = run.metrics()
    assert math.isnan(line["loss"])
    assert line["grad_norm"] == math.inf


def test_no_metrics_before_the_first_line(tmp_path):
    run = started(resolved(), tmp_path)
    run.truncate(0)
    assert run.metrics() == []
    assert list(curves(run).columns) == ["step", "split", "loss", "amount", "tokens"]


# ---- status.json


def test_status_keeps_what_is_not_given_again_and_forgets_the_old_reason(tmp_path):
    run = RunDirectory(tmp_path)
    with run.lock():
        run.write_status("running", step=7, steps=20, loss=2.5, eta=12.0)
        first = run.status()
        run.write_status("failed", reason="the disk is full")
    assert first["state"] == "running"
    status = run.status()
    kept = {k: status[k] for k in ("state", "step", "steps", "loss", "reason", "started")}
    assert kept == {
        "state": "failed",
        "step": 7,
        "steps": 20,
        "loss": 2.5,
        "reason": "the disk is full",
        "started": first["started"],
    }
    assert "eta" not in status
    run.write_status("done", step=20)
    assert "reason" not in run.status()
    assert run.is_done


def test_seconds_are_those_of_this_process_and_not_of_another_with_its_pid(tmp_path):
    """A container starts again with the same pids; what lies between is no time of training."""
    run, path = RunDirectory(tmp_path), tmp_path / "status.json"
    with run.lock():
        run.write_status("running", step=1)
        run.write_status("running", step=2)
        assert 0 <= run.status()["seconds"] < 60
        status = json.loads(path.read_text())
        status["clock"] -= 1000
        path.write_text(json.dumps(status))
        run.write_status("running", step=3)
        assert 1000 <= run.status()["seconds"] < 1060
        status = json.loads(path.read_text())
        assert status["pid"] == os.getpid()
        status["clock"] -= 1000
        status["process"] = "what another process drew"
        path.write_text(json.dumps(status))
        run.write_status("running", step=4)
        assert 1000 <= run.status()["seconds"] < 1060


def test_status_is_whole_at_every_moment(tmp_path):
    """A reader in another process never meets a half-written file."""
    run = RunDirectory(tmp_path)
    run.write_status("running")
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import json, sys\n"
            "seen = set()\n"
            "print('ready', flush=True)\n"
            "while 'done' not in seen:\n"
            "    seen.add(json.load(open(sys.argv[1]))['state'])\n",
            str(tmp_path / "status.json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reader.stdout.readline() == b"ready\n"
    for step in range(200):
        run.write_status("running", step=step, reason="x" * 5000)
    run.write_status("done")
    _, errors = reader.communicate(timeout=20)
    assert (reader.returncode, errors) == (0, b"")
    assert os.listdir(tmp_path) == ["status.json"]


# ---- the lock

HOLDER = """
import sys, time
from scaling.records import RunDirectory
run = RunDirectory(sys.argv[1])
with run.lock():
    run.write_status("running", step=4, steps=20)
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_and_a_kill(tmp_path):
    run = RunDirectory(tmp_path / "runs" / "one")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        assert run.status()["state"] == "running"
        message = f"runs/one is in use by process {holder.pid}"
        with pytest.raises(UserError, match=message), run.lock():
            pytest.fail("two processes hold one lock")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=10)
    assert run.status()["state"] == "stopped"
    assert "the same command resumes it" in run.status()["reason"]
    with run.lock():
        run.write_status("running")
        assert run.status()["step"] == 4


def test_a_run_that_has_logged_nothing_yet_is_running_while_it_holds_its_lock(tmp_path):
    run = started(resolved(), tmp_path)
    assert run.status() == {}
    with run.lock():
        assert run.status()["state"] == "running"
    assert run.status() == {}


def test_a_look_at_the_status_does_not_keep_a_run_from_its_lock(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_status("running")
    watcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom scaling.records import RunDirectory\n"
            "print('ready', flush=True)\n"
            "while RunDirectory(sys.argv[1]).status()['state'] != 'done': pass\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    assert watcher.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        with run.lock():
            pass
    run.write_status("done")
    assert watcher.wait(timeout=10) == 0
    watcher.stdout.close()


# ---- places that cannot be written


def test_an_unwritable_workdir_is_named(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    workdir = tmp_path / "file" / "results"
    with pytest.raises(UserError, match=r"cannot write .*file/results/runs.*--workdir"):
        started(resolved(), workdir)
    with pytest.raises(UserError, match="cannot write"), RunDirectory(workdir).lock():
        pytest.fail("locked a directory that cannot be")


def test_a_full_disk_is_named():
    """/dev/full answers every write as a full disk does."""
    with pytest.raises(UserError, match=r"/dev/full: No space left.*free some space"):
        files.append("/dev/full", b"line\n")


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    texts = [f"{i}".encode() * 100_000 for i in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        for _ in range(5):
            list(pool.map(lambda text: files.write_atomic(tmp_path / "one", text), texts))
            assert (tmp_path / "one").read_bytes() in texts
    assert os.listdir(tmp_path) == ["one"]


def test_what_a_killed_write_left_goes_with_the_next_start(tmp_path):
    run = started(resolved(), tmp_path)
    old, young = run.path / ".status.json.abc.tmp", run.path / ".status.json.def.tmp"
    for left in (old, young):
        left.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    with run.lock():
        assert not old.exists()
        assert young.exists()  # another process may be about to put it into its place


def test_a_line_that_did_not_fit_is_taken_back(tmp_path):
    """A limit on the size of files makes the kernel write a part and then fail."""
    code = (
        "import resource, sys\n"
        "from scaling import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "files.append(sys.argv[1], b'x' * 79 + b'\\n')\n"
        "try: files.append(sys.argv[1], b'y' * 79 + b'\\n')\n"
        "except files.StorageError as error: print(error)\n"
    )
    path = tmp_path / "metrics.jsonl"
    command = [sys.executable, "-c", code, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"cannot write {path}: File too large" in out
    assert path.read_bytes() == b"x" * 79 + b"\n"
