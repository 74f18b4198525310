"""The status view says what every run is at, and how to repeat the ones that went wrong."""

import io
import threading
import time

import pytest
from rich.console import Console

from scaling import files
from scaling.config import RunConfig, override
from scaling.records import RunDirectory
from scaling.records.status import cells, show, status_lines, summary, watch
from scaling.units import duration, human


@pytest.fixture
def plan():
    base = {"train.steps": 20, "data.corpus": "c0ffee", "evals.sets.val.corpus": "c0ffee"}
    return [override(RunConfig(), base | {"seed": seed}) for seed in range(4)]


@pytest.fixture
def sweep(tmp_path, plan):
    for config, (state, step) in zip(
        plan, [("done", 20), ("diverged", 5), ("failed", 10)], strict=False
    ):
        run = RunDirectory.open(config, tmp_path)
        run.start(config, {}, size={"flops": 4e12, "params": 1e6})
        run.append({"step": step, "split": "val", "loss": 2.5 + config.seed})
        reason = None if state == "done" else f"{state} because"
        run.write_status(state, step=step, steps=20, reason=reason)
    return tmp_path


def test_every_planned_run_has_its_line_and_every_trouble_its_command(sweep, plan):
    lines = status_lines(sweep, plan)
    for config, state, step in zip(
        plan, ("done", "diverged", "failed", "to do"), (20, 5, 10, 0), strict=True
    ):
        name = RunDirectory.open(config, sweep).path.name
        (line,) = [line for line in lines if line.startswith(name)]
        assert state in line
        assert f" {step}/20" in line
    text = "\n".join(lines)
    assert "4 runs: 1 done, 1 failed, 1 diverged, 1 to do; 7T of 12T FLOPs" in text
    for config, state in ((plan[1], "diverged"), (plan[2], "failed")):
        path = RunDirectory.open(config, sweep).path
        assert f"{state}: {path.name}\n  {state} because\n" in text
        assert f"\n  python launch.py train --run={path}" in text


def test_without_a_plan_the_runs_found_are_shown(sweep):
    assert [cell.state for cell in cells(sweep)] == ["done", "diverged", "failed"]
    assert [cell.loss for cell in cells(sweep)] == [2.5, 3.5, 4.5]


def test_no_runs(tmp_path):
    assert status_lines(tmp_path) == ["no runs yet"]
    assert summary([]) == "0 runs"


def test_a_running_run_shows_rate_and_eta(tmp_path, plan):
    run = RunDirectory.open(plan[0], tmp_path)
    run.start(plan[0], {}, size={"flops": 4e12})
    with run.lock():
        run.write_status("running", step=5, steps=20, rate=2.5, eta=125.0, loss=3.25, mfu=0.41)
        (line, *_), text = status_lines(tmp_path)[1:], "\n".join(status_lines(tmp_path))
    assert line.split()[1:] == [
        "running",
        "5/20",
        "2.5/s",
        "2",
        "min",
        "5",
        "s",
        "41.0%",
        "3.2500",
        "1T",
    ]
    assert "running ones end in 2 min 5 s" in text


def test_a_loss_is_looked_for_near_the_end_of_the_lines(tmp_path, plan, monkeypatch):
    run = RunDirectory.open(plan[0], tmp_path)
    run.start(plan[0], {})
    lines = [{"step": s, "split": "train", "loss": 3.0, "grad_norm": 1 / 3} for s in range(1, 5000)]
    run.append({"step": 0, "split": "val", "loss": 9.0}, *lines)
    run.write_status("running", step=4999, steps=5000, loss=3.25)
    read, tail = [], files.tail
    monkeypatch.setattr(files, "tail", lambda p, n: read.append(tail(p, n)) or read[-1])
    assert cells(tmp_path)[0].loss == 3.25
    assert sum(map(len, read)) < len((run.path / "metrics.jsonl").read_bytes()) / 3
    run.append({"step": 5000, "split": "val", "loss": 2.5})
    assert cells(tmp_path)[0].loss == 2.5


def test_colour_in_a_terminal_only(sweep):
    out = {terminal: io.StringIO() for terminal in (True, False)}
    for terminal, file in out.items():
        show(sweep, console=Console(file=file, force_terminal=terminal, width=160))
        assert "diverged because" in file.getvalue()
    assert "\x1b[" in out[True].getvalue()
    assert out[False].getvalue() == "\n".join(status_lines(sweep)) + "\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_ends_with_the_last_run(tmp_path, plan, terminal):
    run = RunDirectory.open(plan[0], tmp_path)
    run.start(plan[0], {})
    out = io.StringIO()
    with run.lock():
        run.write_status("running", step=5, steps=20)
        console = Console(file=out, force_terminal=terminal, width=120)
        watcher = threading.Thread(target=watch, args=(tmp_path, plan[:1], 0.02, console))
        watcher.start()
        time.sleep(0.2)
        assert watcher.is_alive()
        run.write_status("done", step=20, steps=20)
        watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert "20/20" in out.getvalue()
    assert ("\x1b[" in out.getvalue()) == terminal


def test_numbers_read_well():
    counts = [0, 7, 999, 1000, 1234, 999_999, 1_500_000, 2.5e12, None, float("nan")]
    assert [human(c) for c in counts] == [
        *("0", "7", "999", "1k", "1.23k", "1M", "1.5M", "2.5T"),
        *("-", "-"),
    ]
    assert [duration(s) for s in (0.4, 59.6, 125, 3600, 90_000, None)] == [
        *("0 s", "1 min", "2 min 5 s", "1 h", "1 d 1 h"),
        "-",
    ]
