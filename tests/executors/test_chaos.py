"""Chaos: processes killed, checkpoints damaged, the disk full; the table is the undisturbed one."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import jax
import pandas as pd
import pytest

from scaling.config import to_dict
from scaling.executors.jobs import Job
from scaling.executors.local import run_local
from scaling.records import RunDirectory
from scaling.records.tables import table

REPOSITORY = pathlib.Path(__file__).parents[2]
# A sweep as `launch.py sweep` makes it, by four workers.
SCRIPT = """
import json, sys
from scaling.config import from_dict
from scaling.executors.jobs import Job
from scaling.executors.local import run_local
jobs = [Job((from_dict(values),)) for values in json.load(open(sys.argv[1]))]
results = run_local(jobs, sys.argv[2], workers=4)
sys.exit(0 if all(result.status == "done" for result in results) else 1)
"""
KILLS, DAMAGED = 32, 2
# What a run was put through, not what came out of it.
NOT_COMPARED = ("seconds", "attempts")


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """A file system of its own, of 100 MB; None where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(path)]
    try:
        mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield path if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


class Chaos:
    """A sweep in a process of its own, and what happens to it."""

    def __init__(self, configs, workdir: pathlib.Path, log: pathlib.Path):
        self.runs = [RunDirectory.open(config, workdir) for config in configs]
        self.workdir, self.log, self.random = workdir, log, random.Random(5)
        self.list = log.with_name("configs.json")
        self.list.write_text(json.dumps([to_dict(config) for config in configs]))
        self.workers_killed = self.schedulers_killed = self.damaged = 0
        self.start()

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.sweep = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(self.list), str(self.workdir)],
                cwd=REPOSITORY,
                stderr=log,
                stdout=log,
            )

    def workers(self) -> list[int]:
        """Pids of the sweep's children."""
        children = pathlib.Path(f"/proc/{self.sweep.pid}/task/{self.sweep.pid}/children")
        return [int(pid) for pid in children.read_text().split()] if children.exists() else []

    def lines(self) -> int:
        """Of metrics, in all runs together."""
        paths = self.workdir.glob("runs/*/metrics.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in paths)

    def wait_for(self, condition, seconds: float = 120.0) -> bool:
        """False when the sweep ended before."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            if self.sweep.poll() is not None:
                return False
            time.sleep(0.02)
        return True

    def running(self) -> list[tuple[RunDirectory, int]]:
        """Runs that a worker trains, with its pid."""
        workers = set(self.workers())
        states = [(run, run.status()) for run in self.runs]
        return [
            (run, s["pid"])
            for run, s in states
            if s.get("state") == "running" and s.get("pid") in workers
        ]

    def kill_worker(self) -> None:
        running = [pid for _, pid in self.running()]
        pids = running if running and self.random.random() < 0.7 else self.workers()
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), signal.SIGKILL)
                self.workers_killed += 1

    def kill_scheduler(self) -> None:
        self.sweep.kill()
        self.sweep.wait()
        self.schedulers_killed += 1
        self.start()

    def damage(self) -> bool:
        """Kill the worker of a run that has a checkpoint, and spoil the newest before it is read:
        whoever goes on with the run has the way from its start to the restore before it.
        """
        for run, pid in self.running():
            if not saved(run):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.workers_killed += 1
            newest = max(saved(run), key=lambda path: int(path.name))
            for file in (path for path in newest.rglob("*") if path.is_file()):
                os.truncate(file, file.stat().st_size // 2)
            self.damaged += 1
            return True
        return False

    def fill_disk(self) -> None:
        """No space at all until a run has met it."""
        met = len(re.findall("^disk: ", self.log.read_text(), re.MULTILINE))
        filler = self.workdir / "filler"
        with open(filler, "wb") as file:
            size = 0
            # In pieces, since the runs write meanwhile: large ones, then what is left.
            for piece in (2**20, 2**12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), size, piece)
                        size += piece
        try:
            self.wait_for(
                lambda: len(re.findall("^disk: ", self.log.read_text(), re.MULTILINE)) > met
            )
            time.sleep(1.0)
        finally:
            filler.unlink()


def saved(run: RunDirectory) -> list[pathlib.Path]:
    """Its checkpoints, whole ones."""
    return [p for p in pathlib.Path(run.path / "checkpoints").glob("*") if p.name.isdigit()]


@pytest.mark.exhaustive
def test_the_table_of_a_disturbed_sweep_is_the_undisturbed_one(tiny, small_disk, tmp_path):
    configs = [
        tiny(
            {
                **{"optim.peak_lr": lr, "seed": seed, "train.steps": 40},
                **{"train.checkpoint_every": 8, "evals.every": 10},
            }
        )
        for lr in (1e-3, 3e-3, 1e-2)
        for seed in range(8)
    ]
    calm = [Job((config,)) for config in configs]
    run_local(calm, tmp_path / "calm", workers=1, devices=jax.devices()[:1])

    workdir = small_disk or tmp_path / "chaos"
    chaos = Chaos(configs, workdir, tmp_path / "sweep.log")
    deadline = time.monotonic() + 1200
    filled = small_disk is None
    restarts = 0
    try:
        while chaos.workers_killed + chaos.schedulers_killed < KILLS:
            assert time.monotonic() < deadline, chaos.log.read_text()[-3000:]
            # Between two kills somebody gets on, or the sweep would only ever start.
            before, moment = chaos.lines(), chaos.random.uniform(0.0, 0.5)
            if not chaos.wait_for(lambda before=before: chaos.lines() > before):
                assert chaos.sweep.returncode != 0, "the sweep was over before the chaos was"
                restarts += 1
                chaos.start()
                continue
            time.sleep(moment)
            killed = chaos.workers_killed + chaos.schedulers_killed
            if killed >= 12 and not filled:
                chaos.fill_disk()
                filled = True
            elif killed >= 6 * (chaos.damaged + 1) and chaos.damaged < DAMAGED and chaos.damage():
                pass
            elif chaos.random.random() < 0.15:
                chaos.kill_scheduler()
            else:
                chaos.kill_worker()
        while chaos.sweep.wait(timeout=max(1.0, deadline - time.monotonic())) != 0:
            restarts += 1
            assert restarts < 3, chaos.log.read_text()[-3000:]
            chaos.start()
    finally:
        chaos.sweep.kill()
        chaos.sweep.wait()

    assert chaos.workers_killed >= 20
    assert chaos.schedulers_killed >= 2
    assert chaos.damaged == DAMAGED
    assert restarts == 0, "a run was given up"
    compared = [c for c in table(tmp_path / "calm").columns if c not in NOT_COMPARED]
    disturbed = table(workdir)
    pd.testing.assert_frame_equal(
        disturbed[compared], table(tmp_path / "calm")[compared], check_exact=True
    )
    assert set(disturbed["status"]) == {"done"}
    # And every line of every run, wall-clock fields aside.
    for config in configs:
        there, here = (
            RunDirectory.open(config, tmp_path / "calm"),
            RunDirectory.open(config, workdir),
        )
        assert of_steps(here) == of_steps(there)
    failures = {a["failure"] for run in chaos.runs for a in run.attempts()}
    assert "lost" in failures
    assert list(workdir.glob("runs/*/checkpoints/*.unreadable"))
    if small_disk is None:
        pytest.skip("all but the full disk: this user may not mount a small file system")
    assert "disk" in failures


def of_steps(run: RunDirectory) -> list[dict]:
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.metrics()]
