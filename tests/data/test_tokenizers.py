"""Any bytes come back, every byte is counted once, and training is deterministic."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scaling import data
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import prepare
from scaling.data.kinds.text.corpus import tokenizer as tokenizer_of
from scaling.data.kinds.text.tokenizers import Tokenizer
from scaling.data.kinds.text.windows import Windows
from scaling.errors import ConfigError


@pytest.fixture(scope="module")
def bpe(config: TextConfig) -> TextConfig:
    return dataclasses.replace(config, tokenizer="bpe", bpe_vocab=600)


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest, bpe: TextConfig, root: Path) -> Tokenizer:
    return tokenizer_of(dataclasses.replace(bpe, tokenizer=request.param), root)


@given(text=st.binary(max_size=200))
@example(text=bytes(range(256)))
@example(text=b"  def f(x):\n        return  1234567  # <|endoftext|>\r\n\t\x85\xa0 ")
def test_round_trip_and_byte_counts(tokenizer: Tokenizer, text: bytes) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.separator not in ids
    assert tokenizer.decode([tokenizer.separator, *ids, tokenizer.separator]) == text
    assert tokenizer.token_bytes[np.array(ids, int)].sum() == len(text)


def test_text_is_utf8(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("naïve 漢字")).decode() == "naïve 漢字"


def test_sizes(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes.shape == (tokenizer.vocab,)
    assert tokenizer.token_bytes.dtype == np.int32
    assert (tokenizer.token_bytes == 0).nonzero()[0].tolist() == [tokenizer.separator]
    assert tokenizer.vocab == (600 if tokenizer.identity.startswith("bpe") else 257)


def test_bpe_shortens_text(bpe: TextConfig, root: Path) -> None:
    facts = data.describe(bpe, root=root)
    assert facts.sizes["vocab"] == 600
    assert (
        facts.train_examples
        < 0.6 * data.describe(dataclasses.replace(bpe, tokenizer="bytes"), root=root).train_examples
    )


@pytest.mark.parametrize("split", ["train", "validation"])
def test_target_bytes_sum_to_the_text(bpe: TextConfig, files: Path, root: Path, split: str) -> None:
    """Bits per byte compare between vocabularies: all count the bytes of the same text."""
    for name in ("bytes", "bpe"):
        config = dataclasses.replace(bpe, tokenizer=name)
        corpus = prepare(config, config, root)
        windows = Windows(corpus, split, 1, True)  # windows of one token leave none out
        assert len(windows) == len(corpus.tokens(split)) - 1
        total = int(windows.take(np.arange(len(windows)))["target_bytes"].sum())
        texts = {path.read_bytes() for path in files.iterdir()} - {b""}
        chosen = corpus.digests(split)
        assert total == sum(len(t) for t in texts if hashlib.sha256(t).digest() in chosen)


def test_bpe_training_is_deterministic(bpe: TextConfig, files: Path, root, tmp_path) -> None:
    (tmp_path / "files").mkdir()
    for i, path in enumerate(sorted(files.iterdir(), reverse=True)):
        (tmp_path / "files" / f"{i:04d}").write_bytes(path.read_bytes())
    again = dataclasses.replace(bpe, source=f"text:{tmp_path}/files/*")
    one, other = tokenizer_of(bpe, root), tokenizer_of(again, tmp_path / "root")
    assert one.identity == other.identity
    text = b"".join(path.read_bytes() for path in files.iterdir())
    assert one.encode(text) == other.encode(text)


def test_bpe_sees_the_train_split_only(bpe: TextConfig, files: Path, root, tmp_path) -> None:
    config = dataclasses.replace(bpe, tokenizer="bytes")
    held_out = prepare(config, config, root).digests("validation")
    (tmp_path / "files").mkdir()
    for path in files.iterdir():
        text, i = path.read_bytes(), 0
        if hashlib.sha256(text).digest() in held_out:  # another one that is held out, too
            while hashlib.sha256(text).digest()[0] >= 0.2 * 255 or i == 0:
                text, i = path.read_bytes() + f" other{i}".encode() * 9, i + 1
        (tmp_path / "files" / path.name).write_bytes(text)
    without = dataclasses.replace(bpe, source=f"text:{tmp_path}/files/*")
    assert tokenizer_of(without, tmp_path / "root").identity == tokenizer_of(bpe, root).identity


def test_other_source_takes_the_vocabulary_of_training(resolved, root, tmp_path) -> None:
    (tmp_path / "other.txt").write_bytes(b"something else entirely, " * 40)
    config = resolved(
        **{
            "data.tokenizer": "bpe",
            "data.bpe_vocab": 600,
            "evals.sets.other": {"source": f"text:{tmp_path}/*.txt", "split": "all"},
        }
    )
    tokenizer = tokenizer_of(config.data, root)
    stream = data.eval_batches(config, "other", root).examples.corpus.tokens("all")
    assert tokenizer.decode(stream.tolist()) == b"something else entirely, " * 40
    assert stream.tolist() == [
        tokenizer.separator,
        *tokenizer.encode(b"something else entirely, " * 40),
    ]


def test_vocabulary_too_small_for_the_bytes(bpe: TextConfig, root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.bpe_vocab=256 must be at least 257"):
        data.describe(dataclasses.replace(bpe, bpe_vocab=256), root=root)


def test_smallest_vocabulary_is_the_bytes(bpe: TextConfig, root: Path) -> None:
    tokenizer = tokenizer_of(dataclasses.replace(bpe, bpe_vocab=257), root)
    assert tokenizer.vocab == 257
    assert len(tokenizer.encode(b"abc abc")) == 7
