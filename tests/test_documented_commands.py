"""Every command of the README and the docs: it is parsed, its fields are fields, its files are
there.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from scaling.commands import COMMANDS, config_flag
from scaling.commands.command import FLAGS
from scaling.commands.parsing import parse
from scaling.studies import study
from tests.test_flags import forget

REPOSITORY = pathlib.Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "scaling/*/README.md")
MADE = ("out/", "mine.py", "experiments/mine.py")  # by commands and files of the pages themselves


def commands() -> list[tuple[str, str]]:
    """(page, command) of the fenced blocks and of inline code; the lines of one are joined, and
    what a shell does with it is left out.
    """
    found = {}
    for pattern in PAGES:
        for page in sorted(REPOSITORY.glob(pattern)):
            text = page.read_text()
            blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            blocks += re.findall(
                r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
            )
            code = "\n".join(blocks).replace("\\\n", " ")
            variables = dict(re.findall(r'^(\w+)="(.*)"$', code, re.MULTILINE))
            for line in re.findall(r"(?<![-\w/.])(?:python|make) .*", code):
                for name, value in variables.items():
                    line = line.replace(f"${name}", value)
                line = re.split(r"; | 2>&1| \|| &&|'$", line)[0].strip()
                if line.count("'") % 2 == 0 and "..." not in line:
                    found[line] = page.name
    return sorted((page, line) for line, page in found.items())


def of(program: str) -> list:
    """Those of `program`, as parameters."""
    chosen = [(page, line) for page, line in commands() if line.startswith(program)]
    return [pytest.param(line, id=f"{page}: {line}"[:100]) for page, line in chosen]


@pytest.fixture(autouse=True)
def _fresh_flags():
    forget()
    yield
    forget()


@pytest.mark.parametrize("line", of("python launch.py"))
def test_a_command_of_launch_is_one(line, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(line, comments=True)[2:]
    if words and words[0] == "--help":
        return
    command, help_wanted = parse(words, COMMANDS)
    assert isinstance(command.summary, str)
    if help_wanted:
        return
    for name, load in (("config", study.load_config), ("experiment", study.load_study)):
        value = FLAGS[name].value if name in FLAGS else None
        if isinstance(value, str) and not value.startswith(MADE):
            load(value)
    if "config" in FLAGS and isinstance(value := FLAGS["config"].value, str):
        if value.startswith("out/runs/"):  # of a run that is there by then
            FLAGS["config"].value = "configs/bert.py" if "bert" in value else "configs/lm.py"
        if config_flag.fields():
            config_flag.given()


@pytest.mark.parametrize("line", of("python -m benchmarks."))
def test_a_benchmark_is_there_and_has_the_flags(line):
    words = shlex.split(line, comments=True)[2:]
    text = (REPOSITORY / f"{words[0].replace('.', '/')}.py").read_text()
    if "of_study" in text:
        text += (REPOSITORY / "benchmarks" / "of_study.py").read_text()
    for word in words[1:]:
        if word.startswith("--") and word != "--help":
            assert f'"{word.partition("=")[0]}"' in text, word


def test_no_benchmark_is_run_as_a_file():
    """Its imports are found only from the repository's root."""
    assert not of("python benchmarks/")


@pytest.mark.slow
def test_every_benchmark_is_found_from_the_root_alone():
    own = {"gpt_torch", "mup_package"}  # they need packages of their own
    names = sorted({path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")} - own)
    code = f"import importlib\nfor name in {names}: importlib.import_module('benchmarks.' + name)"
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]


@pytest.mark.parametrize("line", of("make "))
def test_a_target_of_make_is_one(line):
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    word = shlex.split(line, comments=True)[1]
    assert word in targets or word.endswith(".installed")
