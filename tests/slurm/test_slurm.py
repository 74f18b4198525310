"""Sweeps on a real Slurm of two virtual nodes: whatever happens to tasks, nodes and the scheduler,
the runs come out as undisturbed ones do, bit for bit."""

import contextlib
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable

import jax
import pandas as pd
import pytest

from scaling.config import DistributedConfig
from scaling.errors import RESUME_ME
from scaling.executors.slurm import queue
from scaling.records import RunDirectory, tables
from scaling.train.loop import train

from . import cluster
from .conftest import Sweep, wait_for

pytestmark = pytest.mark.slurm
LAST = 1200
# Long enough to be hit in the middle; saved often.
LONG = {
    "train.steps": LAST,
    "train.checkpoint_every": 100,
    "train.log_every": 100,
    "evals.every": 500,
}


def slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def metrics(run: RunDirectory) -> list[dict]:
    """Without wall-clock fields."""
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.metrics()]


def assert_same(sweep: Sweep, reference: Sweep) -> None:
    # The clock, and what was done to a run, are not what came of it.
    aside = ["seconds", "attempts", "healed"]
    ours, theirs = (tables.table(s.workdir).drop(columns=aside) for s in (sweep, reference))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for config in sweep.configs:
        assert metrics(sweep.run(config)) == metrics(reference.run(config))


def test_runs_of_one_and_two_nodes_and_one_that_meets_its_time_limit(sweep, tmp_path):
    """The mesh of the first asks for two devices: two processes, one on each node, join. The last
    one is held up until its time is over: it saves, queues itself again, and goes on.
    """
    explode = {"optim.name": "sgd", "optim.peak_lr": 1e30, "optim.clip_norm": None}
    one = sweep([{"mesh.fsdp": 2}, explode, LONG])
    both, diverging, late = one.configs
    scheduler = one.start("--slurm_time=1", "--slurm_save=1")
    wait_for(lambda: one.step(late) > 0)
    pid, task = one.run(late).status()["pid"], one.task(late)
    os.kill(pid, signal.SIGSTOP)
    # Slurm looks every half a minute. Its signal wakes the process; if not, this does.
    wait_for(lambda: len(one.starts(late)) > 1 or elapsed(task) > 58)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    text = scheduler.end()
    assert "1 diverged, 2 done" in text

    assert one.run(both).record()["provenance"]["device_count"] == 2
    assert one.run(both).config().distributed == DistributedConfig()
    assert one.run(diverging).status()["state"] == "diverged"
    assert len(one.starts(late)) == 2
    assert "stopped at step" in one.log(late)
    assert not one.run(late).attempts()  # Slurm has seen to it, not the scheduler

    train(both, tmp_path / "here", devices=jax.devices()[:2], quiet=True)
    ours, theirs = metrics(one.run(both)), metrics(RunDirectory.open(both, tmp_path / "here"))
    assert [(a["step"], a["split"]) for a in ours] == [(b["step"], b["split"]) for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert math.isclose(a["loss"], b["loss"], rel_tol=1e-5), (a, b)  # sums in another order
    train(late, tmp_path / "here", devices=jax.devices()[:1], quiet=True)
    assert metrics(one.run(late)) == metrics(RunDirectory.open(late, tmp_path / "here"))

    # Again: no task is spent on what has ended.
    before = queue.read()
    assert "1 diverged, 2 done" in one.train()
    assert (queue.read() or {}).keys() == (before or {}).keys()


def elapsed(task: str) -> float:
    """Seconds since the task's last start."""
    minutes, seconds = slurm("squeue", "--noheader", "--Format=TimeUsed", f"-j{task}").split(":")
    return 60 * int(minutes) + int(seconds)


def test_nodes_without_scontrol_and_runs_that_slurm_cannot_place(sweep, tmp_path):
    """A task that cannot put itself back is submitted again. Three nodes are more than there are:
    that run waits, with Slurm's reason, until the sweep is stopped.
    """
    one = sweep([LONG, {"mesh.fsdp": 3, "train.batch_size": 12, "evals.batch_size": 12}])
    long, large = one.configs
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").symlink_to(shutil.which("srun") or "")
    scheduler = one.start(f"--slurm_setup=export PATH={tmp_path}/bin")
    wait_for(lambda: one.step(long) > 0)
    first = one.task(long)
    slurm("scancel", "--signal=USR2", first)  # as before a time limit
    wait_for(lambda: "[1/2] done" in scheduler.said())
    assert one.task(long) != first
    assert one.submitted() == [1, 1, 1]
    assert [line["failure"] for line in one.run(long).attempts()] == ["preempted"]
    wait_for(lambda: "waits for PartitionNodeLimit" in scheduler.said())
    scheduler.interrupt()
    assert "1 done, 1 pending" in scheduler.end(expected=RESUME_ME)
    assert all(entry.is_over for entry in (queue.read() or {}).values())

    text = one.start("--slurm_partition=nowhere").end(expected=1)
    assert "1 done, 1 failed" in text
    assert "Slurm did not take it" in text
    assert "partition" in one.run(large).status()["reason"]


def test_a_stop_reaches_tasks_that_an_earlier_scheduler_grouped_otherwise(sweep):
    pair = sweep([{"seed": 0}, {"seed": 1}], LONG | {"train.steps": 50 * LAST})
    first = pair.start("--pack=2")
    wait_for(lambda: all(pair.step(config) > 0 for config in pair.configs))
    first.kill()
    second = pair.start("--pack=off")  # both runs wait for the end of that one task
    wait_for(lambda: "still in Slurm" in second.said())
    second.interrupt()
    second.end(expected=RESUME_ME)
    wait_for(lambda: all(entry.is_over for entry in (queue.read() or {}).values()))
    assert pair.submitted() == [1]
    assert [pair.run(config).status()["state"] for config in pair.configs] == ["stopped"] * 2


@pytest.mark.exhaustive
def test_a_dozen_runs_end_as_undisturbed_ones_whatever_is_done_to_them(sweep, make_reference):
    """Tasks cancelled and put back, the scheduler killed, tasks thrown out by a job that matters
    more, a node taken down, a node lost: each time while one of the runs is in the middle.
    """
    many = sweep([{"seed": seed} for seed in range(12)], LONG)
    cap = "--slurm_array_parallelism=3"
    first, done_to = many.start(cap), []

    def hit(blow: Callable[[str, str], object]) -> None:
        """Strike a task that is training, and which was not struck before."""

        victims: list[queue.Entry] = []

        def found() -> bool:
            entries = queue.read() or {}
            running = [e for e in entries.values() if e.state == "RUNNING"]
            assert len(running) <= 3
            middle = {many.task(c) for c in many.configs if 0 < many.step(c) < LAST // 2}
            victims[:] = [e for e in running if e.id in middle and e.id not in done_to]
            return bool(victims)

        wait_for(found)
        victim = victims[0]
        done_to.append(victim.id)
        blow(victim.id, victim.nodes)

    hit(lambda task, _: slurm("scancel", task))
    hit(lambda task, _: slurm("scontrol", "requeue", task))
    first.kill()
    second = many.start(cap)
    wait_for(lambda: "still in Slurm" in second.said())
    hit(lambda task, _: slurm("scancel", task))
    hit(lambda _, node: slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=x"))
    for node in cluster.NODES:
        cluster.restore_node(node)
    matters = ("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    hit(lambda _, node: slurm(*matters, f"--nodelist={node}"))
    hit(lambda _, node: cluster.lose_node(node))
    wait_for(lambda: not cluster.is_up())  # Slurm has noticed
    for node in cluster.NODES:
        cluster.restore_node(node)
    text = second.end()
    assert "12 done" in text
    # What the first scheduler had submitted is not submitted again: one array, and the cancelled.
    assert many.submitted() in ([12, 1, 1], [12, 2])
    assert sum(len(many.run(config).attempts()) for config in many.configs) >= 1
    assert_same(many, make_reference(many))
