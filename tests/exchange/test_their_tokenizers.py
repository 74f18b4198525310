"""Tokenizers of others that do not spell bytes: every byte of a text is counted once, what is
written is what they say, and spans have their own marks.
"""

import dataclasses
import json

import models
import numpy as np
import pytest
import vocabularies
from hypothesis import example, given
from hypothesis import strategies as st

from scaling.config import override
from scaling.data.kinds.denoising import KIND as DENOISING
from scaling.data.kinds.denoising import DenoisingConfig, MarkedText
from scaling.data.kinds.text import TextConfig, exchanged
from scaling.data.kinds.text.corpus import prepare
from scaling.data.kinds.text.windows import Windows
from scaling.errors import ConfigError
from scaling.exchange import inward, outward
from scaling.families import beside_weights
from scaling.families import exchanged as exchange_table
from scaling.studies import study


def adopted(name, root, data=None):
    """Data with the tokenizer of a name of `vocabularies.MADE`."""
    content = vocabularies.made(name).to_str().encode()
    said = vocabularies.SAID[name]
    ends = said["eos_token_id"], said.get("decoder_start_token_id")
    return exchanged.adopt(data or TextConfig(), {"tokenizer.json": content}, ends, root)


@pytest.fixture(scope="module", params=vocabularies.MADE)
def tokenizer(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return exchanged.opened(adopted(request.param, root).tokenizer_file, root)


@given(text=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
@example(text=b"")
@example(text=b" \t\n ")
@example(text="Café \xa0½ ﬁne 日本\u200b 👍🏽 e\u0301".encode() + b"\xff\xc3( \xe6\x97")
def test_every_byte_counts_once(tokenizer, text):
    ((tokens, sizes),) = tokenizer.measured([text])
    assert tokens.tolist() == tokenizer.encode(text)
    assert sizes.sum() == len(text)
    assert (sizes >= 0).all()
    assert len(sizes) == max(1, len(tokens))
    (again,) = tokenizer.encode_many([text])
    assert again.tolist() == tokens.tolist()


def test_bytes_are_of_the_text_as_it_stands(tokenizer):
    text = "  Déf\n 日本 (x)"
    ((_, sizes),) = tokenizer.measured([text.encode()])
    ends = np.cumsum(sizes).tolist()
    words = {len(text[:i].encode()) for i in range(len(text) + 1)}
    assert set(ends) <= words  # no character is cut
    # A word's last token ends where the word does, whatever was dropped or changed before it.
    assert {len(text[:i].encode()) for i in (5, 9)} <= set(ends)
    assert tokenizer.token_bytes is None


def test_what_is_written_is_what_tokens_say(tokenizer):
    of_words = tokenizer.begins == tokenizer.separator
    ids = tokenizer.encode("def Main(x):")
    said = tokenizer.decode(ids).decode()
    assert said.split() == (
        ["def", "main", "(", "x", ")", ":"] if of_words else ["def", "Main(x):"]
    )
    assert b"".join(tokenizer.decode([i]) for i in ids) == tokenizer.decode(ids)
    assert tokenizer.decode([tokenizer.separator, 10**6]) == b""
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("\u4e16")).decode()


def test_what_looks_special_in_a_text_is_text(tokenizer):
    ids = tokenizer.encode("[MASK] [CLS] </s> <extra_id_0>")
    assert tokenizer.separator not in ids
    assert not set(tokenizer.marks) & set(ids)
    assert tokenizer.marks == list(range(209, 199, -1)) or not tokenizer.marks


@pytest.mark.parametrize("name", vocabularies.MADE)
def test_windows_have_the_bytes_of_their_text(name, tmp_path, text_files):
    source = f"text:{text_files}/*.txt"
    data = adopted(name, tmp_path, TextConfig(source=source, seq_len=7, validation_fraction=0.2))
    corpus = prepare(data, data, tmp_path)
    texts = [path.read_bytes() for path in text_files.glob("*.txt")]
    assert sum(corpus.bytes(split).sum() for split in ("train", "validation")) == sum(
        len(text) for text in set(texts) if text
    )
    windows = Windows(corpus, "train", 7, True)
    batch = windows.take(np.arange(len(windows)))
    stream, sizes = corpus.tokens("train"), corpus.bytes("train")
    count = 7 * len(windows)
    np.testing.assert_array_equal(batch["targets"].ravel(), stream[1 : count + 1])
    np.testing.assert_array_equal(batch["target_bytes"].ravel(), sizes[1 : count + 1])
    np.testing.assert_array_equal(
        windows.token_bytes(np.arange(len(windows))).ravel(), sizes[:count]
    )


def test_spans_have_the_marks_of_the_tokenizer(tmp_path, text_files):
    data = DenoisingConfig(source=f"text:{text_files}/*.txt", seq_len=40, validation_fraction=0.2)
    data = adopted("t5", tmp_path, data)
    facts = DENOISING.facts(data, data, tmp_path)
    assert facts.sizes == {"vocab": 210}
    data = dataclasses.replace(data, corpus=facts.content_hash)
    examples = DENOISING.examples(data, data, "train", tmp_path)
    batch, windows = examples.take(np.arange(9)), examples.windows
    sizes = windows.token_bytes(np.arange(9))
    for row in range(9):
        targets = batch["targets"][row].tolist()
        assert [t for t in targets if t >= 200] == [209, 208, 207]
        assert targets[-1] == 207
        assert [t for t in batch["source"][row].tolist() if t >= 200] == [209, 208]
        marks = np.isin(batch["targets"][row], [209, 208, 207])
        assert (batch["target_bytes"][row][marks] == 0).all()
        # In order: each is that of a place of the window, with the bytes of that place.
        tokens = windows.take(np.array([row]))["tokens"][0]
        whole = np.stack([tokens, sizes[row]], axis=1).tolist()
        left_out = np.stack([batch[n][row][~marks] for n in ("targets", "target_bytes")], axis=1)
        for pair in left_out.tolist():
            whole = whole[whole.index(pair) + 1 :]
    assert (batch["tokens"][:, 0] == 0).all()
    words = DENOISING.tokenizer(data, tmp_path)
    assert words.encode("<0>")[-1] == 209
    assert words.decode([209, 5, 200]).startswith(b"<0>")
    assert words.decode([209, 5, 200]).endswith(b"<9>")
    with pytest.raises(ConfigError, match="12 marks are needed, and the tokenizer has 10"):
        MarkedText(words.words, 11)


def test_a_row_that_masks_goes_out_as_a_token(tmp_path):
    table = models.table("bert_tokens")
    for vocab, masks in ((257, 257), (258, None)):  # of a padded table it is none of the next
        config = study.resolve_planned(
            override(models.named("bert_tokens"), {"model.vocab": vocab})
        )
        folder = tmp_path / str(vocab)
        folder.mkdir()
        outward.write(config, table, {}, folder, "float32")
        files = beside_weights.tokenizer_files(folder)
        assert beside_weights.mask_token(files) == masks
        said = json.loads((folder / "config.json").read_text())
        given = exchange_table.read(table, said | {"_mask_token": masks})
        assert given["vocab"] == 258
        assert given["mask_row"] is (masks is None)
        data = inward.adopted(TextConfig(), said, files, tmp_path)
        tokenizer = exchanged.opened(data.tokenizer_file, tmp_path)
        assert len(tokenizer) == 257 + (masks is not None)
        assert tokenizer.encode("a<|mask|>") == [*b"a<|mask|>"]


def test_other_files_and_ends_are_another_tokenizer_of_the_same_tokens(tmp_path):
    content = vocabularies.made("t5").to_str().encode()
    found = list[exchanged.ImportedTokenizer]()
    for more, ends in (
        ({}, (1, None)),
        ({}, (1, 0)),
        ({"tokenizer_config.json": b"{}"}, (1, None)),
        ({}, (0, None)),
    ):
        files = {"tokenizer.json": content} | more
        data = exchanged.adopt(TextConfig(tokenizer="bpe", bpe_vocab=999), files, ends, tmp_path)
        assert data.bpe_vocab == TextConfig.bpe_vocab
        found.append(exchanged.opened(data.tokenizer_file, tmp_path))
    assert len({one.folder for one in found}) == 4
    assert [one.identity == found[0].identity for one in found] == [True, True, True, False]
    assert [one.begins for one in found] == [1, 0, 1, 0]
    assert [list(one.beside()) for one in found] == [[], [], ["tokenizer_config.json"], []]
    assert {one.exported()[0] for one in found} == {content}
