"""`sweep --tune` as it is typed: it trains, is killed, goes on, and reports."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.report.search import difference

REPOSITORY = pathlib.Path(__file__).parents[2]
STUDY = """
from configs import lm
from scaling.config.search import Search, among, between
from scaling.config.sweep import Study

def get_study(arg=""):
    base = lm.get_config("debug")
    base.data.source = "text:{text}/*.txt"
    base.train.steps = 27
    base.evals.batches = 1
    for name, value in {{"width": 16, "heads": 2, "depth": 1}}.items():
        base.model[name] = value
    decays = among((0.0, 0.1))
    axes = {{"optim.peak_lr": between(1e-4, 1e-1, log=True), "optim.weight_decay": decays}}
    search = Search(axes, trials={trials}, at_once=4, confirm={confirm})
    return Study("small", base, [{{"seed": 5}}, {{"seed": 6}}], "Does it search?", search=search)
"""


def written(folder: pathlib.Path, text_files, trials: int, confirm: int = 0) -> pathlib.Path:
    file = folder / "small.py"
    file.write_text(STUDY.format(text=text_files, trials=trials, confirm=confirm))
    return file


def begin(file: pathlib.Path, workdir: pathlib.Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "launch.py", "sweep", "--tune", f"--experiment={file}"),
            *(f"--workdir={workdir}", "--workers=1", *flags),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return said


def trials_of(workdir: pathlib.Path) -> pd.DataFrame:
    return pd.read_csv(workdir / "report" / "small-search" / "trials.csv")


@pytest.mark.exhaustive
def test_a_search_is_trained_confirmed_and_reported(tmp_path, text_files):
    file = written(tmp_path, text_files, trials=4, confirm=2)
    said = end(begin(file, tmp_path / "out"))
    assert "trials 0-3 of 4, rung 1 of 3" in said
    table = trials_of(tmp_path / "out")
    assert list(table["trial"]) == [0, 1, 2, 3]
    assert sorted(table["step"]) == [3, 3, 3, 27]
    page = (tmp_path / "out/report/small-search/search.md").read_text()
    assert "4 trials, 1 of them to their end; 33% of the FLOPs" in page
    assert "| best found |" in page
    assert "the study's own" in page
    for name in ("search.png", "search.svg"):
        assert (tmp_path / "out/report/small-search" / name).stat().st_size > 1000


@pytest.mark.exhaustive
def test_a_search_killed_five_times_is_the_undisturbed_one(tmp_path, text_files):
    """SIGKILL while runs are trained: the same trials, and nothing that was saved trained again."""
    file = written(tmp_path, text_files, trials=12)
    end(begin(file, tmp_path / "calm"))
    killed = tmp_path / "killed"
    journal = killed / "searches" / "small" / "journal.jsonl"
    for kill in range(5):
        process, before = begin(file, killed), journal.stat().st_size if journal.exists() else 0
        while process.poll() is None:
            # In the middle of something, somewhere else each time.
            if journal.exists() and journal.stat().st_size > before + 1500 * (1 + kill % 3):
                time.sleep(0.7 * kill)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.05)
        process.wait()
        process.stdout.close()
    end(begin(file, killed))
    ours, calm = trials_of(killed), trials_of(tmp_path / "calm")
    pd.testing.assert_frame_equal(ours, calm, rtol=1e-5)
    for run in (killed / "runs").iterdir():
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        seen = [(line["step"], line["split"]) for line in lines]
        assert len(seen) == len(set(seen))


def test_the_interval_of_a_difference_covers():
    """Of two means a nat apart, by a t-interval at 90 % of Welch (1947)."""
    low, high = difference([2.0, 2.1, 1.9], [1.0, 1.1, 0.9])
    assert 0.8 < low < 1.0 < high < 1.2
    assert str(difference([2.0], [1.0, 1.1])[0]) == "nan"


def test_a_study_that_searches_nothing_is_told_so():
    from scaling.config.sweep import Study
    from scaling.tuning.search import search_of
    from tests.written import resolved

    with pytest.raises(UserError, match="says nothing of a search"):
        search_of(Study("plain", resolved(), [{}]))
