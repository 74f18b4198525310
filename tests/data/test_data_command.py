"""`launch.py data`: true counts, without jax, and one line for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prose import compressed, prose

from scaling import data
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.inspection import DOCUMENT, inspect

REPOSITORY = Path(__file__).parents[2]


def launch(*arguments: str, code: str = "pass") -> subprocess.CompletedProcess:
    """`python launch.py data ...` to its end, then `code`."""
    program = (
        "import sys; from scaling.commands.main import main; "
        f"done = main(sys.argv); {code}; sys.exit(done)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "data", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty documents, a copy, two empty ones, one with carriage returns, one long one."""
    texts = [prose(800, seed=i) for i in range(40)]
    texts += [texts[3], b"", b"", b"dos\r\nline\r\n", prose(4000, seed=99)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i:02d}.txt").write_bytes(text)
    return tmp_path


def test_counts_are_those_of_the_files(folder: Path, root: Path) -> None:
    config = TextConfig(source=f"text:{folder}", seq_len=64, validation_fraction=0.2)
    found = inspect(config, 5, root)
    texts = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (found.documents, found.bytes) == (45, sum(map(len, texts.values())))
    assert (found.empty, found.copies, found.crlf) == (2, 1, 1)
    assert [Path(name).name for name in found.empty_names] == ["41.txt", "42.txt"]
    assert (Path(found.longest).name, found.longest_bytes) == ("44.txt", 4000)
    assert found.split_by == "documents"
    assert found.train.texts + found.validation.texts == 42
    both = found.train.bytes + found.validation.bytes
    assert both == sum(map(len, set(texts.values())))
    assert found.train.tokens == found.train.bytes + found.train.texts
    facts = data.describe(config, root=root)
    assert facts.content_hash == found.corpus
    assert found.train.windows == facts.train_examples
    assert found.validation.windows == facts.validation_examples
    assert found.prepared_now
    assert not inspect(config, 5, root).prepared_now
    assert found.seconds > 0


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_first_lines_are_those_of_the_train_split(tmp_path: Path, root: Path, tokenizer) -> None:
    (tmp_path / "one.txt").write_bytes(b"caf\xe9\ttab\r\nnext\x07\n" + prose(20_000))
    config = TextConfig(source=f"text:{tmp_path}/*", tokenizer=tokenizer, bpe_vocab=300)
    lines = inspect(config, 10_000, root).first_lines
    text = (tmp_path / "one.txt").read_bytes()
    shown = {line.removeprefix(DOCUMENT) for line in lines}
    written = {line.decode("latin-1") for line in text.split(b"\n")}
    held_out = written - shown
    assert sum(map(len, held_out)) < 0.1 * len(text)  # validation is not shown
    odd = {"caf\\xe9\ttab\\r", "next\\x07"}
    assert shown - written <= odd
    assert sum(line.startswith(DOCUMENT) for line in lines) == inspect(config, 1, root).train.texts
    assert len(inspect(config, 3, root).first_lines) == 3


def test_the_command_says_it_without_jax(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.txt.gz").write_bytes(compressed(prose(2000), "gzip"))
    done = launch(
        *(f"text:{tmp_path}/small.txt.gz", "--json=-", "--lines=2"),
        code="assert not {'jax', 'tensorflow'} & set(sys.modules)",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["documents"], found["bytes"]) == (1, 2000)
    for said in (
        "documents  1, in all 2,000 bytes",
        "split by   blocks of about 128 bytes: whole documents do not give data.validation_frac",
        "0 dropped",
        f"train      {found['train']['tokens']:,} tokens in {found['train']['texts']} blocks",
        "as the model sees it:",
        found["first_lines"][1],
    ):
        assert said in done.stderr


def test_mistakes_are_one_line() -> None:
    for arguments, said in (
        ([], "data: give either --source"),
        (["text:/nowhere/*"], '--source: source "text:/nowhere/*" matches no file'),
        (["stdlib", "--part=doc"], '--part: source "stdlib" has no part "doc"'),
        (
            ["--config=configs/lm.py", "--config.data.source=tex:a"],
            'data.source: source "tex:a": unknown prefix "tex" (did you mean "text"?)',
        ),
    ):
        done = launch(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {said}"), done.stderr
        assert done.stderr.count("\n") == 1
