"""The comparison of two versions of the code sees one bit of one number; its debug form runs."""

import json
import math

import pytest
from debug_form import REPOSITORY, printed

from benchmarks.same_numbers import compared, difference, same_table, same_text

LINES = [
    {"step": 1, "split": "train", "loss": 2.5, "time/step_s": 0.1},
    {"step": 2, "split": "train", "loss": math.nan, "time/step_s": 0.2},
]
HASHES = [{"step": step, "hashes": {"params/a": step, "batch/x": 7}} for step in (1, 2)]


@pytest.fixture
def write(tmp_path):
    def run(workdir: str, lines: list, hashes: list, name: str = "run-1"):
        folder = tmp_path / workdir / "runs" / name
        folder.mkdir(parents=True)
        for file, rows in (("metrics", lines), ("fingerprints", hashes)):
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (folder / f"{file}.jsonl").write_text(text)
        return folder

    return run


def test_runs_that_differ_in_wall_clock_fields_alone_are_the_same(write, tmp_path):
    slower = [line | {"time/step_s": 9.0, "time/mfu": 0.1} for line in LINES]
    assert difference(write("a", LINES, HASHES), write("b", slower, HASHES)) == ""
    found = compared(tmp_path / "a", tmp_path / "b")
    assert found == "same: 2 lines of metrics, hashes of 2 steps, run-1"


@pytest.mark.parametrize(
    ("lines", "hashes", "name", "found"),
    [
        (LINES, HASHES, "run-2", "name: run-1 | run-2"),
        (
            [LINES[0] | {"loss": 2.5 + 2**-51}, LINES[1]],
            HASHES,
            "run-1",
            "metrics.jsonl, step 1 train: loss: 2.5 | 2.5000000000000004",
        ),
        (
            [LINES[0] | {"new": 0}, LINES[1]],
            HASHES,
            "run-1",
            "metrics.jsonl, step 1 train: new: None | 0",
        ),
        (
            [LINES[0], {"step": 2, "split": "train"}],
            HASHES,
            "run-1",
            "metrics.jsonl, step 2 train: loss: NaN | None",
        ),
        (LINES[:1], HASHES, "run-1", "metrics.jsonl: 2 lines | 1"),
        (LINES, HASHES[:1], "run-1", "fingerprints.jsonl: 2 lines | 1"),
        (
            LINES,
            [HASHES[0], {"step": 2, "hashes": {"params/a": 3, "batch/x": 7}}],
            "run-1",
            "fingerprints.jsonl, step 2: params/a: 2 | 3",
        ),
    ],
)
def test_the_first_difference_is_named(write, tmp_path, lines, hashes, name, found):
    assert difference(write("a", LINES, HASHES), write("b", lines, hashes, name)) == found
    assert compared(tmp_path / "a", tmp_path / "b") == f"DIFFERENT: {found}"


def test_nothing_is_not_the_same(write):
    assert "nothing" in difference(write("a", LINES, []), write("b", LINES, []))


def test_a_table_may_gain_columns_and_lose_none(tmp_path):
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_text("name,loss\na,1.5\n")
    large.write_text("name,kind,loss\na,text,1.5\n")
    assert same_table(small, large) == "same: 1 rows, 2 columns; new: kind"
    assert same_table(large, small) == "DIFFERENT: a, kind: text | None"


def test_a_text_may_gain_lines_and_lose_none():
    assert same_text("a\nb", "a\nb") == "same: 2 lines"
    assert same_text("a\nb", "a\nx\nb") == "same: 2 lines; new: 1"
    assert same_text("a\nb", "b\na") == "DIFFERENT: not said, or not in its place: b"


@pytest.mark.exhaustive
def test_the_debug_form_finds_this_checkout_the_same_as_itself():
    text = printed("same_numbers.py", f"--before={REPOSITORY}")
    assert text.endswith("all the same\n")
    assert len(text.splitlines()) == 8


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_ratio_of_each_speed():
    text = printed("same_numbers.py", f"--before={REPOSITORY}", "--speed")
    assert text.count("after/before") == 3
