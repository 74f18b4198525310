"""The real packages, without a network: what they have of a run, by their own readers."""

import glob
import json
import struct

import pytest

from scaling.records import RunDirectory, notes
from scaling.trackers.sync import Sender
from tests.written import resolved, started


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """Two steps, then, as another process, two more."""
    run = started(resolved(), tmp_path)
    notes.write(run, add=["good"])
    return run


def tell(run: RunDirectory, workdir, tracker: str, place: str = "") -> None:
    for steps, state in (((1, 2), "stopped"), ((3, 4), "done")):
        for step in steps:
            run.append({"step": step, "split": "train", "loss": 5.0 - step})
        run.append({"step": steps[-1], "split": "val", "loss": 7.0})
        run.write_status(state, step=steps[-1], steps=4)
        assert Sender(workdir, tracker, place, group="study").look(last=True) == []


LOSSES = {1: 4.0, 2: 3.0, 3: 2.0, 4: 1.0}


@pytest.mark.slow  # its import
def test_mlflow(run, tmp_path):
    tell(run, tmp_path, "mlflow")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "trackers" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("study")
    (found,) = client.search_runs([experiment.experiment_id])  # one, though it was resumed
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert {metric.step: metric.value for metric in history} == LOSSES
    assert found.info.run_name == run.path.name
    assert found.info.status == "FINISHED"
    assert found.data.params["model.width"] == str(run.config().model.width)
    assert found.data.tags["tag.good"] == "1"


@pytest.mark.trackers
def test_trackio(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackers" / "trackio"))
    tell(run, tmp_path, "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("scaling") == [run.path.name]
    logs = SQLiteStorage.get_logs("scaling", run.path.name)
    assert {line["step"]: line["train/loss"] for line in logs} == LOSSES


def records(path: str):
    """The records of a .wandb file: LevelDB's log format, in which wandb's own protocol stands."""
    from wandb.proto import wandb_internal_pb2

    with open(path, "rb") as file:
        content, at, whole = file.read(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no header begins at the end of a block
            at += 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.mark.trackers
@pytest.mark.filterwarnings("ignore")  # what wandb itself warns of
def test_wandb(run, tmp_path):
    tell(run, tmp_path, "wandb", "offline")
    found, runs = {}, set()
    for path in sorted(glob.glob(f"{tmp_path}/trackers/wandb/wandb/offline-run-*/*.wandb")):
        for record in records(path):
            if record.HasField("run"):
                runs.add((record.run.run_id, record.run.run_group, record.run.display_name))
                assert list(record.run.tags) == ["good"]
            if record.HasField("history"):
                values = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                found[record.history.step.num] = values["train/loss"]
    assert found == LOSSES
    assert runs == {(run.record()["fingerprint"], "study", run.path.name)}  # both parts are of one
