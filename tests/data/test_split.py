"""Blocks of documents where whole ones cannot be split: contiguous, once, by content, nested."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prose import prose

from scaling import data
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import Corpus, pieces, prepare
from scaling.data.kinds.text.split import block_size, cuts
from scaling.errors import DataError


def corpus_of(folder: Path, texts: list[bytes], fraction: float = 0.05) -> Corpus:
    folder.mkdir(exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_bytes(text)
    config = TextConfig(source=f"text:{folder}/*.txt", validation_fraction=fraction)
    return prepare(config, config, folder / "root")


def share(corpus: Corpus) -> float:
    return corpus.validation_tokens / (corpus.validation_tokens + corpus.train_tokens)


def texts_of(corpus: Corpus, split: str) -> list[bytes]:
    stream = corpus.tokens(split)
    starts = np.flatnonzero(stream == corpus.separator)
    return [bytes(part[1:].tolist()) for part in np.split(stream, starts[1:])]


TOO_FEW = {
    "one file": [prose(1_100_000)],
    "one small file": [prose(20_000)],
    "three files": [prose(30_000, seed) for seed in range(3)],
    "one holds most": [prose(300_000), *(prose(900, seed) for seed in range(1, 90))],
}


@pytest.mark.parametrize("name", TOO_FEW)
@pytest.mark.parametrize("fraction", [0.05, 0.1])
def test_blocks_give_the_share_that_was_asked_for(tmp_path: Path, name: str, fraction) -> None:
    corpus = corpus_of(tmp_path / "files", TOO_FEW[name], fraction)
    assert corpus.split_by.startswith("blocks of about")
    assert 0.9 * fraction < share(corpus) < 1.5 * fraction


def test_a_few_hundred_bytes_can_be_split(tmp_path: Path) -> None:
    for size in (200, 300, 500, 900, 3000):
        corpus = corpus_of(tmp_path / str(size), [prose(size)])
        assert min(corpus.train_tokens, corpus.validation_tokens) > 32
        assert share(corpus) < 0.4


def test_whole_documents_stay_where_they_can_be_split(tmp_path: Path) -> None:
    nine = [prose(3000, seed) for seed in range(9)]
    for fraction in (0.05, 0.1, 0.2, 0.3):
        corpus = corpus_of(tmp_path / "nine", nine, fraction)
        whole = corpus.split_by == "documents"
        assert (corpus.train_documents + corpus.validation_documents == 9) == whole
        assert fraction / 3 <= share(corpus) <= 3 * fraction
    many = corpus_of(tmp_path / "many", [prose(500, seed) for seed in range(200)])
    assert (many.split_by, many.train_documents + many.validation_documents) == ("documents", 200)


def test_blocks_are_the_text_once_cut_at_line_ends(tmp_path: Path) -> None:
    text = prose(50_000)
    corpus = corpus_of(tmp_path / "files", [text])
    blocks = [*texts_of(corpus, "train"), *texts_of(corpus, "validation")]
    assert sum(map(len, blocks)) == len(text)
    assert all(block in text for block in blocks)
    assert [block[-1:] for block in blocks].count(b"\n") >= len(blocks) - 1
    assert not set(texts_of(corpus, "train")) & set(texts_of(corpus, "validation"))


def test_a_block_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    text = prose(1 << 14) + b"\n"
    assert block_size(3 * len(text)) == block_size(len(text)) == 256
    # Line ends at the same places in each copy, which is of whole blocks.
    copy = text[: cuts(text, 256)[40]]
    corpus = corpus_of(tmp_path / "files", [copy * 3])
    config = TextConfig(source=f"text:{tmp_path}/files/*.txt")
    of = pieces(config, config, tmp_path / "files" / "root")
    assert of.copies + len(of.texts.digests) == pytest.approx(3 * len(copy) / 300, rel=0.15)
    assert of.copies > len(of.texts.digests)
    blocks = [*texts_of(corpus, "train"), *texts_of(corpus, "validation")]
    assert len(set(blocks)) == len(blocks)
    assert sum(map(len, blocks)) < 1.2 * len(copy)


def test_blocks_depend_on_the_text_alone(tmp_path: Path) -> None:
    texts = [prose(30_000, seed) for seed in range(3)]
    one = corpus_of(tmp_path / "one", texts)
    other = corpus_of(tmp_path / "other", texts[::-1])
    assert one.content_hash == other.content_hash
    np.testing.assert_array_equal(one.tokens("all"), other.tokens("all"))
    changed = corpus_of(tmp_path / "changed", [*texts[:2], texts[2][:-1] + b"!"])
    assert changed.content_hash != one.content_hash
    assert len(changed.digests("all") & one.digests("all")) > 0.9 * len(one.digests("all"))


def test_text_that_is_added_moves_few_blocks(tmp_path: Path) -> None:
    text = prose(150_000)
    before = corpus_of(tmp_path / "before", [text[:140_000]]).digests("validation")
    after = corpus_of(tmp_path / "after", [text])
    assert len(before & after.digests("validation")) >= 0.7 * len(before)


def test_a_larger_fraction_keeps_what_was_held_out(tmp_path: Path) -> None:
    held_out = [
        corpus_of(tmp_path / "files", [prose(40_000)], fraction).digests("validation")
        for fraction in (0.01, 0.05, 0.1, 0.3, 0.6)
    ]
    for small, large in itertools.pairwise(held_out):
        assert small < large


@given(
    parts=st.lists(st.sampled_from([b"a", b"word ", b"\n", "漢".encode(), b"\xff"]), max_size=400),
    size=st.integers(1, 40),
)
def test_cuts_are_contiguous_and_of_their_size(parts: list[bytes], size: int) -> None:
    text = b"".join(parts)
    ends = cuts(text, size)
    starts = [0, *ends[:-1]]
    assert ends[-1] == len(text)
    for start, end in zip(starts, ends, strict=True):
        assert start < end or not text
        last = end == len(text)
        assert last or size <= end - start <= 2 * size + 3
        assert not last or end - start <= 2.5 * size + 3
        if not last and b"\n" in text[start + size - 1 : start + 2 * size]:
            assert text[end - 1 : end] == b"\n"
    if b"\xff" not in text:  # no character is cut
        assert "".join(text[a:b].decode() for a, b in zip(starts, ends, strict=True)) == (
            text.decode()
        )


def test_what_is_trained_on_in_blocks_cannot_be_evaluated_whole(
    resolved, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "book.txt").write_bytes(prose(20_000))
    for i in range(30):
        (tmp_path / f"other{i}.md").write_bytes(prose(700, seed=i + 1))
    of_book = {"data.source": f"text:{tmp_path}/book.txt"}
    both = {"source": f"text:{tmp_path}/*", "split": "all"}
    config = resolved(**of_book, **{"evals.sets.both": both})
    with pytest.raises(DataError, match=r"evals\.sets\.both\.split=all: 1 of its examples are in"):
        data.eval_batches(config, "both", root)
    other = {"source": f"text:{tmp_path}/*.md", "split": "all"}
    config = resolved(**of_book, **{"evals.sets.other": other})
    assert len(data.eval_batches(config, "other", root))


def test_an_evaluation_set_of_another_source_keeps_its_documents(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(prose(9000))
    config = TextConfig(source=f"text:{tmp_path}/*.txt")
    of_other = pieces(config, TextConfig(), tmp_path / "root")
    assert (of_other.by, len(of_other.texts.digests)) == ("documents", 1)
    assert pieces(config, config, tmp_path / "root").by == "blocks of about 256 bytes"


def test_a_corpus_that_a_run_pins_is_split_as_it_was(tmp_path: Path) -> None:
    """A run that was begun on whole documents, before there were blocks, goes on with them."""
    for i in range(20):
        (tmp_path / f"{i}.txt").write_bytes(prose(300 + 40_000 * (i == 7), seed=i))
    config, root = TextConfig(source=f"text:{tmp_path}/*.txt"), tmp_path / "root"
    before = prepare(config, TextConfig(), root)  # what is not trained on is whole
    now = prepare(config, config, root)
    assert (before.split_by, now.split_by) == ("documents", "blocks of about 256 bytes")
    for corpus in (before, now):
        pinned = dataclasses.replace(config, corpus=corpus.content_hash)
        assert prepare(pinned, pinned, root) == corpus
