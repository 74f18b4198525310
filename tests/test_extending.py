"""docs/extending.md: its code runs as it stands there, and is as short as it says."""

import pathlib
import re
import sys
import types

import pytest

from scaling.config import choices

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
MOST = {"family": 30, "data": 20, "objective": 20}  # lines


@pytest.fixture
def blocks() -> dict[str, str]:
    found = re.findall(r"<!-- (\w+) -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == PAGE.read_text().count("```python")
    return dict(found)


def test_the_code_of_the_page_runs(blocks, tmp_path, monkeypatch, capsys):
    for group in choices.ROOMS:  # what the page registers is gone afterwards
        registry = choices.registry(group)
        for name in {"highway", "waves", "quantile"} - registry.keys():
            monkeypatch.setitem(registry, name, "")
            del registry[name]
    page = types.ModuleType("extending")
    monkeypatch.setitem(sys.modules, "extending", page)  # where dataclasses look for their types
    page.workdir = tmp_path
    for name in ("imports", "family", "data", "objective", "run"):
        exec(compile(blocks[name], f"{PAGE.name}: {name}", "exec"), vars(page))
    loss, coverage = (float(page.row[name]) for name in ("loss", "coverage"))
    assert 0 < loss < 0.1  # 0.28, the quantile of all waves, for whoever learns nothing
    assert 0.5 < coverage < 1
    assert "2560 waves" in capsys.readouterr().out


def test_it_is_short(blocks):
    for name, most in MOST.items():
        lines = [line for line in blocks[name].splitlines() if line.strip()]
        assert len(lines) <= most, name
