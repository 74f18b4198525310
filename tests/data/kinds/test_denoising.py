"""Spans left out of text: source and target together are the window, and what is drawn of them."""

import dataclasses
import itertools

import numpy as np
import pytest

from scaling.data import draws
from scaling.data.kinds.denoising import KIND, DenoisingConfig, MarkedText, compositions
from scaling.data.kinds.text.tokenizers import ByteTokenizer

LENGTH, NOISE, SPANS = 40, 6, 2
MARK = ByteTokenizer.vocab


@pytest.fixture(scope="module")
def examples(text_files, tmp_path_factory):
    root = tmp_path_factory.mktemp("denoising")
    source = f"text:{text_files}/*.txt"
    data = DenoisingConfig(source=source, seq_len=LENGTH, validation_fraction=0.2)
    facts = KIND.facts(data, data, root)
    assert facts.sizes == {"vocab": MARK + SPANS + 1}
    data = dataclasses.replace(data, corpus=facts.content_hash)
    found = KIND.examples(data, data, "train", root)
    shapes = {name: x.shape[1:] for name, x in found.take(np.arange(3)).items()}
    assert shapes == {name: shape for name, (shape, _) in KIND.shapes(data).items()}
    return found


def test_source_and_target_are_the_window(examples):
    indices = np.arange(30)
    batch, windows = examples.take(indices), examples.windows.take(indices)["tokens"]
    for source, targets, window in zip(
        batch["source"].tolist(), batch["targets"].tolist(), windows.tolist(), strict=True
    ):
        assert [t - MARK for t in targets if t >= MARK] == list(range(SPANS + 1))
        assert [t - MARK for t in source if t >= MARK] == list(range(SPANS))
        assert targets[-1] == MARK + SPANS
        parts = [list(group) for mark, group in itertools.groupby(targets, lambda t: t >= MARK)]
        spans = parts[1::2]
        assert sum(map(len, spans)) == NOISE
        filled = [[t] if t < MARK else spans[t - MARK] for t in source]
        assert [t for part in filled for t in part] == window
    np.testing.assert_array_equal(batch["tokens"][:, 1:], batch["targets"][:, :-1])
    assert (batch["tokens"][:, 0] == ByteTokenizer.separator).all()
    assert (batch["target_bytes"].sum(axis=1) <= NOISE).all()


def test_spans_are_drawn_by_key(examples):
    indices = np.arange(20)
    keys = [np.arange(first, first + 20, dtype=np.uint64) for first in (0, 0, 50)]
    one, again, other = (examples.take(indices, key)["source"] for key in keys)
    np.testing.assert_array_equal(one, again)
    assert (one != other).any(axis=1).mean() > 0.8
    fixed = examples.take(indices)["source"]
    np.testing.assert_array_equal(examples.take(indices[::-1])["source"], fixed[::-1])


def test_marks_are_written_with_their_number():
    words = MarkedText(ByteTokenizer(), 2)
    for text in ("a <0>b<1><2>", "<3> < 1> <x>", "<0"):
        assert words.decode(words.encode(text)) == text.encode()
    assert words.encode("a<1><3>") == [ord("a"), MARK + 1, *b"<3>"]
    assert words.vocab == len(words.token_bytes) == MARK + 3


def test_every_composition_is_as_likely_as_any_other():
    count, wanted = 4000, list(itertools.product(range(1, 6), repeat=3))
    wanted = [parts for parts in wanted if sum(parts) == 5]
    found = compositions(draws.folded(draws.key("test"), np.arange(count)), 5, 3)
    often = [int((found == parts).all(axis=1).sum()) for parts in wanted]
    assert sum(often) == count
    p = 1 / len(wanted)
    assert np.abs(np.array(often) / count - p).max() < 4 * np.sqrt(p / count)
