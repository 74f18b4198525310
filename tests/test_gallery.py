"""Every entry of the gallery has what it is to be judged by, and its small form is made."""

import pathlib
import re

import pytest

from scaling.studies import study

ROOT = pathlib.Path(__file__).parent.parent
ENTRIES = (ROOT / "docs" / "gallery.md").read_text().split("\n## ")[1:]
MADE = re.search(r"GALLERY := (.*?)\n\n", (ROOT / "Makefile").read_text(), re.DOTALL)


def test_it_is_numbered_and_has_fifteen() -> None:
    assert [int(text.partition(".")[0]) for text in ENTRIES] == [*range(1, len(ENTRIES) + 1)]
    assert len(ENTRIES) >= 15


@pytest.mark.parametrize("text", ENTRIES, ids=lambda text: text.splitlines()[0])
def test_an_entry_has_source_numbers_verdict_command_and_picture(text: str) -> None:
    (picture,) = re.findall(r"!\[.+\]\((\S+)\)", text)
    assert (ROOT / "docs" / picture).is_file()
    published, here, verdict = (
        re.search(rf"- \*\*{label}\*\*: (.+?)(?=\n- |\n\n)", text, re.DOTALL)
        for label in ("Published", "Here", "Verdict")
    )
    assert published
    assert re.search(r"arXiv\s+\d{4}\.\d{5}", published[1])
    assert here
    assert re.search(r"\d", here[1])
    assert verdict
    assert re.match("agrees|differs|misses", verdict[1])
    assert "python launch.py" in text
    experiments = re.findall(r"experiments/(\w+\.py)", text)
    assert MADE
    assert all(name in MADE[1] for name in experiments)


def test_every_small_form_is_one() -> None:
    assert MADE
    for form in MADE[1].replace("\\", " ").split():
        study.load_study(f"{ROOT}/experiments/{form}")
