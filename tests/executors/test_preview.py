"""The dry run's table says what it can of every run, and ends on none."""

import pytest

from scaling.config import override
from scaling.executors import admission, preview
from scaling.executors.progress import SweepProgress
from scaling.executors.result import Result
from scaling.records import RunDirectory, status
from scaling.studies import study


def test_a_mesh_that_cannot_be_has_no_bytes_and_the_others_have(tiny, tmp_path):
    bad = override(tiny(), {"mesh.fsdp": 3})
    fine = override(tiny({"seed": 1}), {"mesh.fsdp": 2})
    lines = preview.table([bad, fine], tmp_path, devices=8).splitlines()
    column = lines[0].split().index("bytes/device")
    cells = [line.split()[column] for line in lines[1:3]]
    assert cells[0] == "-"
    assert cells[1].endswith("B")
    assert "2 runs, 0 done" in lines[-1]
    size = study.size(fine)
    epochs = lines[2].split()[lines[0].split().index("epochs")]
    assert float(epochs) == pytest.approx(size["tokens"] / size["unique_tokens"], rel=0.05)


def test_runs_that_were_done_are_counted_before_the_others(tiny, tmp_path, capsys):
    configs = [tiny({"seed": seed}) for seed in range(3)]
    run = RunDirectory.open(configs[1], tmp_path)
    run.start(configs[1], {})
    run.write_status("done", step=12)
    with SweepProgress(configs, [], tmp_path) as progress:
        for config in configs:
            progress.ended(Result(config, "done"))
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("3 runs, 1 done before, 2 to do")
    assert [line.split()[0] for line in lines] == ["[2/3]", "[3/3]"]


def test_a_run_that_is_done_is_told_by_its_validation_loss(tiny, tmp_path, capsys):
    """Not by that of its last training batch: two seeds of one run are far apart by it."""
    config = tiny()
    run = RunDirectory.open(config, tmp_path)
    run.start(config, {})
    with SweepProgress([config], [], tmp_path) as progress:
        run.append({"step": 12, "split": "train", "loss": 1.65})
        run.append({"step": 12, "split": "val", "loss": 1.3456})
        run.append({"step": 12, "split": "docs", "loss": 2.5})
        run.write_status("done", step=12, steps=12, loss=1.65)
        progress.ended(Result(config, "done"))
    said = capsys.readouterr().err
    assert "validation loss 1.3456" in said
    assert "1.65" not in said
    assert [cell.loss for cell in status.cells(tmp_path)] == [1.3456]


def test_a_refusal_leaves_how_a_run_was_trained(tiny, tmp_path):
    config = tiny()
    other = override(config, {"train.microbatches": 2})
    run = RunDirectory.open(config, tmp_path)
    admission.refuse(config, tmp_path, "too large")
    admission.refuse(other, tmp_path, "too large as well")
    assert run.config() == other  # what `train --run` would try
    run.start(config, {"device_kind": "cpu", "device_count": 1})
    run.went_on(0)
    admission.refuse(other, tmp_path, "still too large")
    assert run.config() == config
    assert [start.step for start in run.starts()] == [None, None, 0]
    assert len(run.attempts()) == 3
