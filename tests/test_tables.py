"""The table says what was run, and its files carry what its numbers mean."""

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pyarrow.parquet
from matplotlib import pyplot
from written import finished, resolved, started

from scaling.config import EvalSetConfig, override
from scaling.records import find_runs
from scaling.records.tables import about, columns, curves, table, write_table


def test_curves_count_the_tokens_seen(tmp_path):
    run = started(resolved(train__batch_size=4, data__seq_len=32), tmp_path)
    run.append({"step": 3, "split": "train", "loss": 1.0})
    assert curves(run)["tokens"].tolist() == [3 * 4 * 32]


def test_table_has_a_row_a_run_and_a_column_for_what_varies(tmp_path):
    docs = EvalSetConfig(part="docs", split="all", corpus="d0c5")
    seen = EvalSetConfig(split="train", corpus="c0ffee")
    for width in (32, 64):
        for seed in (0, 1):
            config = resolved(model__width=width, seed=seed)
            config = override(
                config,
                {
                    "evals.sets.docs": vars(docs) | {},
                    "evals.sets.seen": vars(seen) | {},
                },
            )
            finished(config, tmp_path, loss=100.0 / width + seed)
    frame = table(tmp_path)
    assert frame["width"].tolist() == [32, 32, 64, 64]
    assert frame["seed"].tolist() == [0, 1, 0, 1]
    assert frame["model.width"].tolist() == [32, 32, 64, 64]
    assert "model.depth" not in frame
    assert frame["loss"].tolist() == [100 / 32, 100 / 32 + 1, 100 / 64, 100 / 64 + 1]
    assert frame["train_loss"].tolist() == frame["loss/seen"].tolist()
    assert np.allclose(frame["loss/docs"], frame["loss"] + 0.5)
    assert np.allclose(frame["bits_per_byte"], frame["loss"] / math.log(2))
    assert (frame["tokens"] == 20 * 32 * 256).all()
    assert set(frame["status"]) == {"done"}
    known = columns([run.config() for run in find_runs(tmp_path)])
    assert set(known) == set(frame)
    numbers = {name for name in frame if pd.api.types.is_numeric_dtype(frame[name])}
    assert numbers - {name for name, number in known.items() if number} == set()


def test_only_a_done_run_has_a_loss(tmp_path):
    finished(resolved(seed=0), tmp_path, loss=2.0)
    for seed, state in enumerate(("failed", "diverged", "stopped", "running"), start=1):
        run = finished(resolved(seed=seed), tmp_path, loss=3.0)
        run.write_status(state, reason="why" if state != "running" else None)
    started(resolved(seed=5), tmp_path)
    frame = table(tmp_path)
    states = ["done", "failed", "diverged", "stopped", "stopped", "stopped"]
    assert frame["status"].tolist() == states
    assert frame["loss"].notna().tolist() == [True] + [False] * 5
    assert about(frame)["states"] == {"diverged": 1, "done": 1, "failed": 1, "stopped": 3}


def test_last_logged_train_loss_stands_in_for_a_train_set(tmp_path):
    finished(resolved(), tmp_path, loss=2.0)
    assert table(tmp_path)["train_loss"].tolist() == [2.3]


def test_epochs_follow_from_the_unique_tokens(tmp_path):
    finished(resolved(data__unique_tokens=40960), tmp_path, loss=2.0)
    assert table(find_runs(tmp_path))["epochs"].tolist() == [4.0]


def test_the_notebook_of_the_recipes_runs(tmp_path, monkeypatch):
    """Cut out of docs/recipes.md, on two runs in its workdir."""
    recipes = (pathlib.Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    block = recipes.split("<!-- notebook -->\n```python\n", 1)[1].split("```", 1)[0]
    workdir = tmp_path / "out" / "debug"
    for seed in (0, 1):
        finished(resolved(seed=seed), workdir, loss=2.0)
    write_table(table(workdir), workdir / "report" / "quickstart")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block, names)
    assert names["frame"]["loss"].tolist() == [2.0, 2.0]
    assert (workdir / "curve.png").stat().st_size > 0
    pyplot.close("all")


def test_empty_workdir_gives_an_empty_table(tmp_path):
    frame = table(tmp_path / "nothing here")
    assert frame.empty
    assert {"fingerprint", "status", "params", "amount", "flops", "loss", "seed"} <= set(frame)


def test_written_table_is_read_back_and_carries_its_provenance(tmp_path):
    for seed in (0, 1):
        finished(resolved(seed=seed), tmp_path, loss=2.0)
    frame = table(tmp_path)
    facts = write_table(frame, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), frame)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "table.csv")[["loss", "fingerprint"]], frame[["loss", "fingerprint"]]
    )
    metadata = pyarrow.parquet.read_schema(tmp_path / "table.parquet").metadata
    assert (
        json.loads(metadata[b"scaling"])
        == facts
        == json.loads((tmp_path / "table.json").read_text())
    )
    assert facts["corpora"] == {"c0ffee": 2}
    assert facts["warnings"] == []
    assert "token embedding" in facts["conventions"]["params"]


def test_two_corpora_in_one_table_are_said_loudly(tmp_path):
    finished(resolved(), tmp_path, loss=2.0)
    other = override(resolved(), {"data.corpus": "0ther", "evals.sets.val.corpus": "0ther"})
    finished(other, tmp_path, loss=2.1)
    (warning,) = write_table(table(tmp_path), tmp_path)["warnings"]
    assert "2 DIFFERENT CORPORA (0ther, c0ffee)" in warning
