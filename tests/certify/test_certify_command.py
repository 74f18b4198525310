"""`launch.py certify` and `check --table`, as a person types them."""

import json

import pytest

from tests.test_launch import launch


@pytest.mark.exhaustive
def test_a_certificate_is_written_and_says_what_was_left_out(tmp_path, text_files):
    """Three tiny widths, two steps: a page with a verdict and the drift, and the same as JSON."""
    done = launch(
        "certify",
        "--config=configs/lm.py:debug",
        f"--config.data.source=text:{text_files}/*.txt",
        "--config.model.head_dim=8",
        "--config.train.steps=4",
        "--sizes=16,32,64",
        "--parametrizations=mup",
        "--steps=2",
        "--seeds=1",
        "--transfer",
        "--stress",
        "--octaves=-2,0,2",
        f"--workdir={tmp_path}",
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads((tmp_path / "certificates" / "adamw-width.json").read_text())
    (part,) = found["parts"]
    assert found["sizes"] == [16, 32, 64]
    assert (part["verdict"] == "HOLDS") == (done.returncode == 0)
    assert part["forgotten"]["field"] == "rate"
    assert {slope["name"].partition("/")[0] for slope in part["slopes"]} == {
        *("change", "initial", "size", "update")
    }
    assert [best["size"] for best in part["drift"]["bests"]] == [16, 32, 64]
    stressed = dict(part["stress"])
    assert list(stressed) == ["weight decay 0.4", "4 times the batch", "4 times the length"]
    losses = [of["bests"][-1]["loss"] for of in (part["drift"], *stressed.values())]
    assert len(set(losses)) == 4
    page = (tmp_path / "certificates" / "adamw-width.md").read_text()
    assert part["forgotten"]["path"] in page
    assert part["verdict"] in page
    assert page.count("| update/") == sum(s["name"].startswith("update/") for s in part["slopes"])


BAD = {
    "--sizes=64,32": ("64,32", "3 or more, ascending"),
    "--sizes=8,x,16": ("8,x,16", "whole numbers"),
    "--config.optim.parametrization=mup": ("the base", "--parametrizations=mup"),
    "--stress": ("without --transfer",),
}


@pytest.mark.slow
@pytest.mark.parametrize("flag", BAD)
def test_what_cannot_be_certified_is_one_line(flag, tmp_path):
    more = ["--config.optim.base_width=8"] if "optim" in flag else []
    done = launch("certify", "--config=configs/lm.py:debug", f"--workdir={tmp_path}", flag, *more)
    assert done.returncode == 2
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error:")]
    for words in BAD[flag]:
        assert words in line


@pytest.mark.slow
def test_the_table_of_parameters_says_what_each_is(text_files):
    done = launch(
        "check",
        "--config=configs/lm.py:debug",
        f"--config.data.source=text:{text_files}/*.txt",
        "--table",
        "--config.optim.parametrization=completep",
        "--config.optim.base_width=16",
        "--config.optim.base_depth=1",
        "--json=-",
    )
    assert done.returncode == 0, done.stderr
    rows = {row["path"]: row for row in json.loads(done.stdout)}
    assert rows["embedding"]["role"] == "input"
    assert rows["blocks/mlp/up/w"]["lr"] < rows["embedding"]["lr"]
    assert rows["blocks/mlp/up/w"]["weight_decay"] > rows["embedding"]["weight_decay"]
    assert rows["final_norm/scale"]["weight_decay"] is None
    assert "parametrization: completep, base width 16 of 32" in done.stderr
