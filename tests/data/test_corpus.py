"""Documents once, split by their own hash, pinned by content, prepared exactly once."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scaling import data, files
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import prepare
from scaling.data.store import build_once
from scaling.errors import DataError


def corpus_of(folder: Path, root: Path, **fields: object):
    config = TextConfig(source=f"text:{folder}/*", **fields)  # type: ignore[arg-type]
    return prepare(config, config, root)


@pytest.fixture
def copies(files: Path, tmp_path: Path) -> Path:
    """The shared files once more, free to be changed."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for path in files.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


# ---- split and de-duplication


def test_no_document_is_in_both_splits(config: TextConfig, files: Path, root: Path) -> None:
    corpus = prepare(config, config, root)
    train, validation = corpus.digests("train"), corpus.digests("validation")
    assert train
    assert validation
    assert not train & validation
    texts = {path.read_bytes() for path in files.iterdir()} - {b""}
    assert train | validation == {hashlib.sha256(text).digest() for text in texts}


def test_no_text_is_in_both_token_streams(config: TextConfig, root: Path) -> None:
    corpus = prepare(config, config, root)
    sides = []
    for split in ("train", "validation"):
        stream = corpus.tokens(split)
        starts = np.flatnonzero(stream == corpus.separator)
        sides.append({part.tobytes() for part in np.split(stream, starts[1:])})
        assert len(starts) == len(sides[-1])  # nor twice in one
    assert not sides[0] & sides[1]


def test_split_share_is_near_the_fraction(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(2000):
        (folder / str(i)).write_text(f"document {i}")
    corpus = corpus_of(folder, tmp_path / "root", validation_fraction=0.1)
    # Binomial(2000, 0.1): standard deviation 13.4, so that 67 are five of them.
    assert abs(corpus.validation_documents - 200) < 67


def test_other_documents_do_not_move_a_document(copies: Path, root: Path) -> None:
    before = corpus_of(copies, root)
    for path in sorted(copies.iterdir())[::2]:
        path.unlink()
    (copies / "new").write_text("a new one")
    after = corpus_of(copies, root)
    kept = after.digests("all") & before.digests("all")
    assert len(kept) > 100
    assert kept & before.digests("validation") == kept & after.digests("validation")


def test_larger_fraction_keeps_what_was_held_out(files: Path, root: Path) -> None:
    small = corpus_of(files, root, validation_fraction=0.1).digests("validation")
    large = corpus_of(files, root, validation_fraction=0.4).digests("validation")
    assert small < large


# ---- identity


@pytest.mark.parametrize(
    ("fields", "content", "tokens", "held_out", "counts"),
    [
        (
            {"validation_fraction": 0.2},
            *("8cefe1d4c1b1ab57", "60d46f75d4146f39", "235a66a2f224f65a"),
            (74, 226, 19_372, 62_764),
        ),
        (
            {"validation_fraction": 0.05},
            *("889d571965dea944", "f2d764330ea5f83a", "065f8b13beb11474"),
            (24, 276, 5_941, 76_195),
        ),
        (
            {"validation_fraction": 0.2, "tokenizer": "bpe", "bpe_vocab": 600},
            *("4135495357c3fd08", "46fe10c7c3db296d", "235a66a2f224f65a"),
            (74, 226, 9_642, 31_101),
        ),
    ],
)
def test_a_corpus_of_documents_is_pinned(
    config: TextConfig, root: Path, fields, content, tokens, held_out, counts
) -> None:
    """Names, splits and token streams of the corpora that runs were trained on must never move."""
    of = dataclasses.replace(config, **fields)
    corpus = prepare(of, of, root)

    def short_hash(raw: bytes) -> str:
        return hashlib.sha256(raw).hexdigest()[:16]

    assert corpus.content_hash == content
    assert short_hash(corpus.tokens("all").tobytes()) == tokens
    assert short_hash(b"".join(sorted(corpus.digests("validation")))) == held_out
    assert counts == (
        *(corpus.validation_documents, corpus.train_documents),
        *(corpus.validation_tokens, corpus.train_tokens),
    )


def test_content_hash_is_of_the_documents_only(copies: Path, root: Path, tmp_path: Path) -> None:
    original = corpus_of(copies, root)
    paths = sorted(copies.iterdir())
    for i, path in enumerate(paths):  # the same documents under names in another order
        path.rename(copies / f"{len(paths) - i:05d}.renamed")
    (copies / "duplicate").write_bytes((copies / "00001.renamed").read_bytes())
    renamed = corpus_of(copies, tmp_path / "elsewhere")
    assert renamed.content_hash == original.content_hash
    np.testing.assert_array_equal(renamed.tokens("all"), original.tokens("all"))

    changed = max(copies.iterdir(), key=lambda path: path.stat().st_size)
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    assert corpus_of(copies, root).content_hash != original.content_hash


def test_content_hash_and_the_config(config: TextConfig, root: Path) -> None:
    def described(**fields: object) -> str:
        return data.describe(dataclasses.replace(config, **fields), root=root).content_hash  # type: ignore[arg-type]

    assert described(seq_len=16, unique_tokens=64, seed=3) == described()
    assert described(part="all") == described()  # the default, named
    assert len({described(), described(validation_fraction=0.3), described(tokenizer="bpe")}) == 3


def test_describe_counts_whole_windows(config: TextConfig, root: Path) -> None:
    facts, corpus = data.describe(config, root=root), prepare(config, config, root)
    assert facts.sizes["vocab"] == 257
    assert facts.train_examples == (corpus.train_tokens - 1) // 32
    assert facts.validation_examples == (corpus.validation_tokens - 1) // 32


def test_described_again_is_fast(config: TextConfig, root: Path) -> None:
    data.describe(config, root=root)
    start = time.perf_counter()
    for _ in range(10):
        data.describe(config, root=root)
    assert (time.perf_counter() - start) / 10 < 0.2


def test_changed_files_are_not_taken_for_the_pinned_corpus(copies, resolved, tmp_path) -> None:
    config = resolved(**{"data.source": f"text:{copies}/*"})
    (copies / "more").write_bytes(b"more text")
    with pytest.raises(DataError, match=r"data\.corpus: .* is now"):
        data.train_batches(config, tmp_path / "another machine")


def test_prepared_corpus_outlives_its_files(copies, resolved, root) -> None:
    config = resolved(**{"data.source": f"text:{copies}/*"})
    before = data.train_batches(config, root).batch(3)["tokens"]
    for path in copies.iterdir():
        path.unlink()
    np.testing.assert_array_equal(data.train_batches(config, root).batch(3)["tokens"], before)


# ---- preparing

DESCRIBE = """
import json, pathlib, sys
from scaling import data
from scaling.data.kinds.text import TextConfig
facts = data.describe(TextConfig(**json.loads(sys.argv[1])), root=pathlib.Path(sys.argv[2]))
assert "jax" not in sys.modules and "tensorflow" not in sys.modules
print(facts)
"""


def test_two_processes_prepare_at_once(files: Path, tmp_path: Path) -> None:
    fields = {"source": f"text:{files}/*", "tokenizer": "bpe", "bpe_vocab": 400}
    command = [sys.executable, "-c", DESCRIBE, json.dumps(fields), str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1
    for kind in ("documents", "tokenizers", "corpora"):
        (made,) = [p for p in (tmp_path / kind).iterdir() if not p.name.startswith(".")]
        assert (made / "facts.json").exists()
    assert not list(tmp_path.glob("*/.*.unfinished"))


def test_what_a_killed_process_left_is_built_again(tmp_path: Path) -> None:
    killed = """
import os, pathlib, signal, sys
from scaling.data.store import build_once
def build(folder):
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
build_once(pathlib.Path(sys.argv[1]), build)
"""
    path = tmp_path / "thing"
    result = subprocess.run([sys.executable, "-c", killed, str(path)], check=False, timeout=60)
    assert result.returncode == -9
    assert not path.exists()
    build_once(path, lambda folder: (folder / "whole").write_text("whole") and None)
    assert [file.name for file in path.iterdir()] == ["whole"]


def test_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise DataError("no text")

    with pytest.raises(DataError, match="no text"):
        build_once(tmp_path / "thing", build)
    assert not (tmp_path / "thing").exists()


def test_data_directory_that_cannot_be_written(config: TextConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DataError, match=r"cannot prepare data in .*SCALING_DATA_DIR"):
        data.describe(config, root=tmp_path / "file")


def test_data_directory_from_the_environment(monkeypatch, config, tmp_path: Path) -> None:
    monkeypatch.setenv("SCALING_DATA_DIR", str(tmp_path / "here"))
    assert files.data_dir() == tmp_path / "here"
    data.describe(config)
    assert (tmp_path / "here" / "corpora").is_dir()


# ---- too little text


def test_one_text_over_and_over_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "only.txt").write_text("one document " * 1000)
    config = TextConfig(source=f"text:{tmp_path}/*.txt")
    with pytest.raises(DataError, match=r"split is too small .* data\.validation_fraction"):
        data.describe(config, root=tmp_path / "root")


def test_corpus_smaller_than_a_window(config: TextConfig, root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.source=.*one window of data\.seq_len=1000000"):
        data.describe(dataclasses.replace(config, seq_len=1_000_000), root=root)


def test_subset_smaller_than_a_batch(resolved, root: Path) -> None:
    config = resolved(**{"data.unique_tokens": 7 * 32})
    with pytest.raises(DataError, match=r"data\.unique_tokens=224: .* 7 examples .*batch_size=8"):
        data.train_batches(config, root)


def test_evaluation_set_without_a_window(resolved, root: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text("tiny")
    config = resolved(**{"evals.sets.tiny": {"source": f"text:{tmp_path}/*", "split": "all"}})
    with pytest.raises(DataError, match=r"evals\.sets\.tiny: .*not one example of 32 tokens"):
        data.eval_batches(config, "tiny", root)
