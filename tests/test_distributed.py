"""Several real processes over loopback: the run of one process, and none waits for ever."""

import dataclasses
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pytest

from scaling.config import DistributedConfig, MeshConfig
from scaling.devices import distributed, meshes
from scaling.errors import BAD_INPUT, RESUME_ME, ConfigError
from scaling.records import RunDirectory
from scaling.train.loop import train
from scaling.train.placement import host_rows

REPOSITORY = pathlib.Path(__file__).parents[1]
PATIENCE = 240  # seconds until a process counts as hanging
# On a crowded machine a heartbeat may come late: this is how late, in seconds.
TIMEOUT = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Launcher:
    """Starts `launch.py train` of the tiny run, and ends what a failed test left."""

    def __init__(self, base: Mapping[str, object], workdir: pathlib.Path):
        self.workdir, self._base = workdir, base
        self._all: list[subprocess.Popen] = []

    def start(
        self,
        fields: Mapping[str, Any],
        devices: int = 1,
        environment: Mapping[str, str] | None = None,
        **where: object,
    ) -> subprocess.Popen:
        """One process; `where` are fields of `distributed`."""
        values = {**self._base, **fields}
        values |= {f"distributed.{name}": value for name, value in where.items()}
        flags = [f"--config.{name}={value}" for name, value in values.items()]
        command = [sys.executable, "launch.py", "train", "--config=configs/lm.py", *flags]
        process = subprocess.Popen(
            [*command, f"--workdir={self.workdir}", f"--cpu_devices={devices}"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}),
        )
        self._all.append(process)
        return process

    def several(
        self, count: int, fields: Mapping[str, Any], devices: int = 1, slurm: bool = False
    ) -> list[subprocess.Popen]:
        """All processes of a run, which find each other by flags, or as `srun` would start them."""
        port = free_port()
        if not slurm:
            where: dict[str, Any] = {"coordinator": f"127.0.0.1:{port}", "processes": count}
            where |= {"timeout": TIMEOUT}
            return [self.start(fields, devices, process=i, **where) for i in range(count)]
        job = {"SLURM_JOB_ID": str(port), "SLURM_NTASKS": str(count)}
        job |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": str(count)}
        tasks = [job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(count)]
        return [self.start(fields, devices, task, timeout=TIMEOUT) for task in tasks]

    def close(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def launcher(tiny_fields, tmp_path):
    launcher = Launcher(tiny_fields, tmp_path)
    yield launcher
    launcher.close()


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    return [(p.wait(PATIENCE), p.communicate()[1]) for p in processes]


def done(processes: list[subprocess.Popen]) -> None:
    results = ends(processes)
    assert [code for code, _ in results] == [0] * len(processes), results


def wait_for(condition: Callable[[], bool], processes: list[subprocess.Popen]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        codes = [p.poll() for p in processes]
        assert all(code is None for code in codes), ends([p for p in processes if p.poll()])
        assert time.monotonic() < until
        time.sleep(0.01)


def lines_of(run: RunDirectory) -> int:
    path = run.path / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def assert_same_curve(run: RunDirectory, reference: RunDirectory) -> None:
    """Every line once, in order, and the same to the rounding of sums in another order."""
    ours, theirs = run.metrics(), reference.metrics()
    assert [(a["step"], a["split"]) for a in ours] == [(b["step"], b["split"]) for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert math.isclose(a["loss"], b["loss"], rel_tol=1e-5), (a, b)
        if a["split"] == "val":
            assert math.isclose(a["loss_se"], b["loss_se"], rel_tol=1e-4)
            assert a["tokens_evaluated"] == b["tokens_evaluated"]


# ---- two processes


@pytest.mark.slow
def test_two_processes_train_the_run_of_one(tiny, launcher, tmp_path):
    """Tensor parallel across them: both read every row. Metrics are written once."""
    fields = {"mesh.tensor": 2, "train.steps": 5}
    done(launcher.several(2, fields))
    config = tiny({"train.steps": 5})
    train(config, tmp_path / "one", devices=jax.devices()[:1], quiet=True)
    run, one = (RunDirectory.open(config, w) for w in (tmp_path, tmp_path / "one"))
    assert_same_curve(run, one)
    assert run.status()["state"] == "done"
    assert run.record()["provenance"]["device_count"] == 2
    assert run.config().distributed == DistributedConfig(), "addresses are of one start only"


# ---- four, and fewer


LONG = {"train.steps": 160, "train.checkpoint_every": 20, "evals.every": 80}


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    config, workdir = tiny(LONG), tmp_path_factory.mktemp("uninterrupted")
    assert train(config, workdir, devices=jax.devices()[:1], quiet=True).status == "done"
    return config, RunDirectory.open(config, workdir)


@pytest.mark.exhaustive
def test_a_signal_to_one_stops_all_and_fewer_processes_go_on(uninterrupted, launcher, tmp_path):
    """4 processes, SIGTERM to the last; then 2 tasks of Slurm, SIGTERM to the first; then 1."""
    config, reference = uninterrupted
    run = RunDirectory.open(config, tmp_path)
    steps = []
    # Pairs of processes that read the same rows; then, as on two slices, replicas of two devices.
    pairs = {"mesh.fsdp": 2, "mesh.tensor": 2}
    slices = {"mesh.replica": 2, "mesh.fsdp": 2, "train.microbatches": 2}
    for count, devices, mesh, told, slurm in ((4, 1, pairs, 3, False), (2, 2, slices, 0, True)):
        before = lines_of(run)
        processes = launcher.several(count, LONG | mesh, devices, slurm)
        wait_for(lambda before=before: lines_of(run) >= before + 10, processes)
        processes[told].send_signal(signal.SIGTERM)
        results = ends(processes)
        assert [code for code, _ in results] == [RESUME_ME] * count, results
        status = run.status()
        assert status["state"] == "stopped"
        steps.append(status["step"])
        checkpoints = {p.name for p in (run.path / "checkpoints").iterdir()}
        assert str(status["step"]) in checkpoints
    assert 0 < steps[0] < steps[1] < 160
    done([launcher.start(LONG)])
    assert_same_curve(run, reference)


@pytest.mark.parametrize(
    "victim",
    [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)],
)
def test_the_others_end_when_one_is_killed_and_the_same_command_goes_on(
    uninterrupted, launcher, tmp_path, victim
):
    config, reference = uninterrupted
    run = RunDirectory.open(config, tmp_path)
    processes = launcher.several(2, LONG)
    wait_for(lambda: lines_of(run) >= 30, processes)  # past the first checkpoint
    processes[victim].kill()
    started = time.monotonic()
    ((code, text),) = ends([processes[1 - victim]])
    assert time.monotonic() - started < TIMEOUT + 30
    # The runtime may abort on its own when it is process 0 that is gone.
    assert code in (RESUME_ME, *([-signal.SIGABRT] if victim == 0 else [])), text
    assert "another" in text
    assert run.status()["state"] == "stopped"
    if victim == 0:
        done(launcher.several(2, LONG))
        assert_same_curve(run, reference)


# ---- what cannot work


@pytest.mark.slow
def test_a_missing_process_is_an_error_that_says_who_waits_for_whom(launcher):
    port = free_port()
    here = {"coordinator": f"127.0.0.1:{port}", "processes": 3, "timeout": 5}
    first = launcher.start({}, process=0, **here)
    lonely = launcher.start({}, process=2, **here | {"coordinator": f"127.0.0.1:{free_port()}"})
    ((code, text),) = ends([first])
    assert code == BAD_INPUT
    assert f"process 0 of 3 on {socket.gethostname()} waited 5 s" in text
    assert f"at 127.0.0.1:{port} for the others" in text
    ((code, text),) = ends([lonely])
    assert code == BAD_INPUT
    assert "process 2 of 3" in text
    assert "nothing answers" in text


@pytest.mark.slow
def test_a_port_in_use_and_different_commands_are_named(launcher):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one = launcher.start({}, coordinator=f"127.0.0.1:{port}", processes=2, process=0)
        ((code, text),) = ends([one])
    assert code == BAD_INPUT
    assert f"port {port} of this machine" in text

    where = {"coordinator": f"127.0.0.1:{free_port()}", "processes": 2, "timeout": TIMEOUT}
    different = [
        launcher.start({}, process=0, **where),
        launcher.start({"model.width": 32, "train.microbatches": 2}, process=1, **where),
    ]
    for code, text in ends(different):
        assert code == BAD_INPUT, text
        assert "config.model.width is 32, not 16" in text
        assert "config.train.microbatches is 2, not 1" in text
        assert "process 1" in text


@pytest.mark.slow
def test_a_mistake_that_one_process_meets_ends_all_with_its_reason(launcher, tmp_path):
    """Process 0 cannot write the run's directory."""
    (tmp_path / "runs").write_text("not a folder")
    for code, text in ends(launcher.several(2, {})):
        assert code == BAD_INPUT, text
        assert "runs" in text


BAD = {
    "number too large": ({"processes": 2, "process": 2}, r"distributed.process=2 must lie between"),
    "no number": ({"processes": 2}, r"without distributed.process"),
    "no address": ({"coordinator": None}, r"without distributed.coordinator"),
    "no port": ({"coordinator": "somewhere"}, r"distributed.coordinator=somewhere must be host"),
    "no process": ({"processes": 0}, r"distributed.processes=0 must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_config_that_cannot_be_one_of_several_is_refused(case, monkeypatch):
    fields, message = BAD[case]
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    whole = DistributedConfig("127.0.0.1:1", 2, None if fields.get("processes") == 2 else 1)
    with pytest.raises(ConfigError, match=message):
        distributed.initialize(dataclasses.replace(whole, **fields))


def test_one_process_joins_nobody():
    assert not distributed.initialize(DistributedConfig())
    assert not distributed.initialize(DistributedConfig("127.0.0.1:1", 1, 0))


# ---- rows


def test_one_host_reads_every_row_once():
    mesh = meshes.make_mesh(MeshConfig(fsdp=2, tensor=2, data=2))
    np.testing.assert_array_equal(host_rows(16, mesh), np.arange(16))
