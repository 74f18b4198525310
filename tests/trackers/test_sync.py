"""What trackers are told of runs: everything once, through restarts, hangs, errors and kills."""

import os
import time

import pandas as pd
import pytest

from scaling import trackers
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.trackers import follow
from scaling.trackers.sync import Sender, Sent, rows_after
from tests.written import resolved, started


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return started(resolved(), tmp_path)


def write(run: RunDirectory, *steps: int, state: str = "running") -> None:
    for step in steps:
        run.append({"step": step, "split": "train", "loss": 5.0 - step / 10, "time/step_s": 0.1})
    run.append({"step": steps[-1], "split": "val", "loss": float("nan")})
    run.write_status(state, step=steps[-1], steps=20)


def told(workdir) -> list[tuple[int, str]]:
    (path,) = workdir.glob("trackers/csv/*.csv")
    frame = pd.read_csv(path)
    return list(zip(frame["step"], frame["metric"], strict=True))


def lines(*steps: int, val: int) -> list[tuple[int, str]]:
    """What the tracker has of `write`."""
    out = [(step, f"train/{name}") for step in steps for name in ("loss", "time/step_s")]
    out.insert(2 * (steps.index(val) + 1), (val, "val/loss"))
    return out


def test_a_run_is_told_as_it_goes_on_and_each_line_once(run, tmp_path):
    sender = Sender(tmp_path, "csv")
    with run.lock():
        write(run, 1, 2)
        assert sender.look() == []
        assert told(tmp_path) == lines(1, 2, val=2)
        assert sender.look() == []  # nothing is new
        run.append({"step": 2, "split": "docs", "loss": 4.0})  # of a step that was told in part
        sender.look()
        assert told(tmp_path)[-1] == (2, "docs/loss")
    del sender  # killed, with what it holds
    # Resumed from step 1, which computes step 2 again, and told by another process.
    before = told(tmp_path)
    run.truncate(1)
    with run.lock():
        write(run, 2, 3, state="done")
    Sender(tmp_path, "csv").look(last=True)
    assert told(tmp_path)[len(before) :] == lines(3, val=3)


def test_where_it_was_sent_is_known_by_place(run, tmp_path):
    write(run, 1, 2, state="done")
    for place in ("", f"{tmp_path}/elsewhere"):
        sender = Sender(tmp_path, "csv", place)
        sender.look(last=True)
        assert sender.told == 1
    assert len(list(tmp_path.glob("elsewhere/*.csv"))) == 1


def test_a_step_is_told_again_only_for_a_split_that_is_new():
    rows, sent = rows_after([{"step": 4, "split": "train", "loss": 1, "note": "x"}], Sent())
    assert rows == [(4, {"train/loss": 1.0})]
    rows, sent = rows_after([{"step": 4, "split": "val", "loss": 2}], sent)
    assert rows == [(4, {"val/loss": 2.0})]
    assert set(sent.splits) == {"train", "val"}
    assert rows_after([{"step": 4, "split": "train", "loss": 1}], sent) == ([], sent)


def test_two_that_tell_the_same_tracker_tell_it_once(run, tmp_path):
    write(run, 1, 2)
    with run.lock():
        first, second = Sender(tmp_path, "csv"), Sender(tmp_path, "csv")
        first.look()
        assert second.look() == []
        assert told(tmp_path) == lines(1, 2, val=2)
    second.look(last=True)  # the first still has it
    assert told(tmp_path) == lines(1, 2, val=2)


@pytest.mark.parametrize("how", ["hangs", "raises"])
def test_a_tracker_that_does_not_answer_costs_a_run_nothing(
    how, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(follow, "_PATIENCE", 2.0)
    folder = tmp_path / "blocked"
    if how == "hangs":  # whoever opens a pipe that nobody reads waits for ever
        folder.mkdir()
        os.mkfifo(folder / f"{run.path.name}.csv")
    else:
        folder.write_text("a file in the place of the folder")
    began = time.monotonic()
    with follow.following([("csv", str(folder))], tmp_path, None, [run.path.name]):
        for step in range(1, 50):
            write(run, step)
        write(run, 50, state="done")
        wrote = time.monotonic() - began
    assert wrote < 2.0  # nothing of it waits
    assert time.monotonic() - began < 6.0
    assert (
        f"launch.py sync --track=csv --workdir={tmp_path} sends the rest" in capsys.readouterr().err
    )
    if how == "hangs":
        process = follow.left.pop()  # it would end after its grace
        process.kill()
        process.wait()
        (folder / f"{run.path.name}.csv").unlink()
    else:
        folder.unlink()
    Sender(tmp_path, "csv", str(folder)).look(last=True)
    frame = pd.read_csv(folder / f"{run.path.name}.csv")
    assert frame[frame["metric"] == "train/loss"]["step"].tolist() == list(range(1, 51))


def test_what_cannot_be_a_tracker_is_one_sentence(monkeypatch):
    with pytest.raises(UserError, match='wandbb is no tracker \\(did you mean "wandb"'):
        trackers.parsed("csv,wandbb")
    absent = trackers._Entry("csv_file", "no_such_package", "")
    monkeypatch.setitem(trackers.TRACKERS, "absent", absent)
    with pytest.raises(UserError, match="the package no_such_package is not installed"):
        trackers.parsed("absent")
    assert trackers.parsed("csv, mlflow:http://h:5") == [("csv", ""), ("mlflow", "http://h:5")]
