"""The local executor: every run ends with a result, whatever happens to the others."""

import os
import signal
import threading
import time

import pytest

from scaling.devices import runtime
from scaling.errors import UserError
from scaling.executors.jobs import each
from scaling.executors.local import run_local
from scaling.executors.machine import gpu_shares
from scaling.records import RunDirectory


@pytest.fixture
def runs(tiny):
    """Two runs that train, one that diverges, one whose mesh cannot be."""
    explode = {"optim.peak_lr": 1e30, "optim.clip_norm": None, "optim.name": "sgd"}
    return [
        tiny({"seed": 0}),
        tiny(explode),
        tiny({"mesh.fsdp": 3, "seed": 5}),
        tiny({"seed": 1}),
    ]


def statuses(results) -> list[str]:
    return [result.status for result in results]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "workers",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.exhaustive)],
)
def test_a_failed_or_diverged_run_stops_no_other(runs, tmp_path, workers):
    results = run_local(each(runs), tmp_path, workers=workers)
    assert statuses(results) == ["done", "diverged", "failed", "done"]
    assert "mesh.fsdp=3" in results[2].reason
    # The failed run's directory holds its config: it can be repeated alone.
    failed = RunDirectory.open(runs[2], tmp_path)
    assert failed.config() == runs[2]
    assert "mesh.fsdp=3" in failed.status()["reason"]
    # Again: what has ended is not trained again.
    seen = []
    again = run_local(each(runs), tmp_path, workers=workers, on_result=seen.append)
    assert statuses(again) == statuses(results)
    assert len(seen) == 4


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_an_attempt_and_no_run(tiny, tmp_path):
    """SIGKILL on the process that trains the longer run: it is resumed, the others are trained."""
    long = tiny({"train.steps": 300, "train.checkpoint_every": 20})
    short = [tiny({"seed": s}) for s in (1, 2)]

    def kill_once() -> None:
        run = RunDirectory.open(long, tmp_path)
        while not any((run.path / "checkpoints").glob("[0-9]*")):
            time.sleep(0.02)
        os.kill(run.status()["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill_once, daemon=True)
    killer.start()
    results = run_local(each([long, *short]), tmp_path, workers=2)
    assert statuses(results) == ["done", "done", "done"]
    (attempt,) = RunDirectory.open(long, tmp_path).attempts()
    assert attempt["failure"] == "lost"
    assert attempt["answer"] == "tried again"
    assert "signal 9" in attempt["reason"]
    assert 0 < attempt["step"] < 300


@pytest.mark.slow
def test_stop_saves_what_runs_and_leaves_the_rest(tiny, tmp_path):
    long = [tiny({"train.steps": 100_000, "seed": s}) for s in range(3)]
    stop = threading.Event()

    def stop_later() -> None:
        while not all(RunDirectory.open(c, tmp_path).status().get("step") for c in long[:2]):
            time.sleep(0.05)
        stop.set()

    threading.Thread(target=stop_later, daemon=True).start()
    results = run_local(each(long), tmp_path, workers=2, stop=stop)
    assert sorted(statuses(results)) == ["pending", "stopped", "stopped"]
    for config, result in zip(long, results, strict=True):
        if result.status == "stopped":
            run = RunDirectory.open(config, tmp_path)
            assert any((run.path / "checkpoints").iterdir())


def test_every_worker_has_gpus_of_its_own_and_all_have_as_many():
    assert gpu_shares(8, 2) == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]
    assert gpu_shares(8, 3) == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert gpu_shares(1, 1) == [["0"]]
    # This process may see a part of the machine itself.
    assert gpu_shares(2, 2, "5,GPU-8f2a") == [["5"], ["GPU-8f2a"]]
    with pytest.raises(UserError, match=r"--workers=3 on 2 GPUs"):
        gpu_shares(2, 3)


@pytest.mark.parametrize("before", [None, "true"])
def test_a_look_at_the_devices_leaves_the_environment_to_the_workers(monkeypatch, before):
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    runtime.only_look()
    assert os.environ.get(name) == before
