"""Texts with labels, tags, answers and translations, cut by tokenizers of others: what stands
around them, what is cut off, and which token has what is said of a word.
"""

import dataclasses
import json

import models
import numpy as np
import pytest
import vocabularies
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import choices, override
from scaling.data.kinds.labelled import LabelledConfig
from scaling.data.kinds.pairs import PairsConfig
from scaling.data.kinds.questions import QuestionsConfig
from scaling.data.kinds.tagged import TaggedConfig
from scaling.data.kinds.text import TextConfig, exchanged
from scaling.data.kinds.text.rows import Rows
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.errors import SourceError
from scaling.exchange import inward
from scaling.families import beside_weights
from scaling.families import exchanged as tables
from scaling.studies import study

CLS, SEP = 2, 3
WORDS = ["def", "Main(argv):", "Café", "don't", "x", "\u200b", "日本", "ﬁne", "return"]
LINES = [f"def f{i * i}(x): return {i} ä" for i in range(40)]


def adopted(name, data, root):
    """Data with the tokenizer of a name of `vocabularies.MADE`."""
    files = {"tokenizer.json": vocabularies.made(name).to_str().encode()}
    said = vocabularies.SAID[name]
    ends = said["eos_token_id"], said.get("decoder_start_token_id")
    return exchanged.adopt(data, files, ends, root)


@pytest.fixture(scope="module", params=vocabularies.MADE)
def cutter(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return exchanged.opened(adopted(request.param, TextConfig(), root).tokenizer_file, root)


def opened(data, root, split="all"):
    kind = choices.kind(data)
    facts = kind.facts(data, data, root)
    data = dataclasses.replace(kind.resolve(data, facts), corpus=facts.content_hash)
    return facts, kind.examples(data, data, split, root)


def lines(rows, path):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return f"lines:{path}"


texts = st.lists(st.sampled_from([*WORDS, *vocabularies.LINES]), max_size=6).map(" ".join)


@settings(max_examples=40)
@given(one=texts, two=texts, length=st.integers(4, 30))
def test_a_row_is_that_of_the_library(cutter, one, two, length):
    """But that it cuts the last text alone."""
    library = vocabularies.made("bert_tokens" if cutter.separator == CLS else "t5")
    for both in ((one,), (one, two)):
        whole = library.encode(*both)
        rows = Rows(cutter, 10**6).row(*(text.encode() for text in both))
        special = any(special in text for special in ("[", "<") for text in both)
        assert special or rows.tokens.tolist() == whole.ids
        assert special or rows.types.tolist() == whole.type_ids
        short = Rows(cutter, length).row(*(text.encode() for text in both))
        assert len(short.tokens) == min(length, len(rows.tokens))
        end = (rows.texts < 0).nonzero()[0][-1]
        first = sum(len(cutter.encode(text)) for text in both[:-1]) + (rows.texts < 0).sum()
        if end == len(rows.tokens) - 1 and length >= first:  # it stays
            assert short.tokens[-1] == rows.tokens[-1]
            assert short.tokens[:-1].tolist() == rows.tokens[: len(short.tokens) - 1].tolist()


@settings(max_examples=40)
@given(text=texts, question=texts, length=st.integers(4, 30))
def test_a_text_is_cut_to_what_there_is_room_for(cutter, text, question, length):
    whole, rows = text.encode(), Rows(cutter, length)
    here = rows.cut(whole, question.encode())
    assert whole.startswith(here)
    row, uncut = (rows.row(question.encode(), one) for one in (here, whole))
    assert row.tokens.tolist() == uncut.tokens.tolist()
    if here != whole:
        assert len(cutter.encode(whole)) > rows.room(question.encode())


def test_labels_have_the_numbers_that_their_names_have_in_a_model(tmp_path):
    said = beside_weights.labels(["POS", "NEG", "b"])
    names = beside_weights.label_names(json.loads(json.dumps(said)))
    assert names == "POS,NEG,b"
    rows = [{"text": x, "label": ("NEG", "POS")[i % 2]} for i, x in enumerate(LINES)]
    data = LabelledConfig(source=lines(rows, tmp_path / "l"), labels=names)
    facts, examples = opened(data, tmp_path)
    assert facts.sizes["classes"] == 3
    assert examples.take(np.arange(4))["label"].tolist() == [1, 0, 1, 0]
    other = dataclasses.replace(data, source=lines([rows[0]], tmp_path / "other"))
    found = choices.kind(data).examples(other, data, "all", tmp_path)
    assert found.take(np.arange(1))["label"].tolist() == [1]
    few = dataclasses.replace(data, labels="POS,b")
    with pytest.raises(SourceError, match='line 1: "NEG" is not among the 2 that are'):
        opened(few, tmp_path)
    for none in (beside_weights.unnamed(2), ["a,b", "c"], []):
        assert beside_weights.label_names(beside_weights.labels(none)) is None
    assert beside_weights.label_names({"id2label": {"1": "a"}}) is None


def test_labels_of_whole_texts(tmp_path):
    source = lines([{"text": x, "label": str(i % 3)} for i, x in enumerate(LINES)], tmp_path / "l")
    data = adopted("bert_tokens", LabelledConfig(source=source, seq_len=12), tmp_path)
    facts, examples = opened(data, tmp_path)
    assert facts.sizes == {"vocab": 240, "classes": 3}
    batch = examples.take(np.arange(len(LINES)))
    cutter = exchanged.opened(data.tokenizer_file, tmp_path)
    for i, text in enumerate(LINES):
        tokens = batch["tokens"][i][batch["segment_ids"][i] > 0].tolist()
        assert tokens == [CLS, *cutter.encode(text)[:10], SEP]
        assert batch["label"][i] == i % 3
    plain = LabelledConfig(source=source, seq_len=12)
    kind = choices.kind(plain)
    assert kind.facts(plain, plain, tmp_path).content_hash != facts.content_hash


@pytest.mark.parametrize("name", vocabularies.MADE)
def test_the_first_token_of_a_word_has_its_tag(name, tmp_path):
    draw = np.random.default_rng(0)
    words = [[WORDS[j] for j in draw.integers(0, len(WORDS), 6)] for _ in range(40)]
    rows = [{"words": row, "tags": [str(WORDS.index(word)) for word in row]} for row in words]
    data = TaggedConfig(source=lines(rows, tmp_path / "t"), seq_len=18)
    data = adopted(name, data, tmp_path)
    _, examples = opened(data, tmp_path)
    batch, cutter = examples.take(np.arange(len(examples))), examples.cut.tokenizer
    before, behind = (1, 1) if name == "bert_tokens" else (0, 1)
    dropped = 0
    for i, row in enumerate(dict.fromkeys(map(tuple, words))):
        sizes = [len(cutter.encode(word)) for word in row]
        firsts = np.cumsum([before, *sizes[:-1]])
        wanted = {
            int(at): WORDS.index(word)
            for at, size, word in zip(firsts, sizes, row, strict=True)
            if size and at < 18 - behind
        }
        dropped += 0 in sizes
        (places,) = batch["tag_mask"][i].nonzero()
        assert dict(zip(places, batch["tags"][i][places], strict=True)) == wanted
    assert (dropped > 0) == (name == "bert_tokens")  # of which a word may have no token at all


@pytest.mark.parametrize("name", vocabularies.MADE)
def test_an_answer_is_the_tokens_of_its_words(name, tmp_path):
    rows = [
        {"text": f"日本 def Main{i}(x): Café don't", "question": "which name ½?", "answer": span}
        for i in range(20)
        for span in ([3, 6], [7, 14 + len(str(i))], [15 + len(str(i)), 19 + len(str(i))])
    ]
    source = lines(rows, tmp_path / "q")
    data = adopted(name, QuestionsConfig(source=source, seq_len=80), tmp_path)
    _, examples = opened(data, tmp_path)
    batch, cutter = examples.take(np.arange(len(rows))), examples.cut.tokenizer
    asked = cutter.encode(rows[0]["question"])
    for i, row in enumerate(rows):
        tokens, (start, end) = batch["tokens"][i], (batch["start"][i], batch["end"][i])
        assert tokens[start : end + 1].tolist() == cutter.encode(row["text"][slice(*row["answer"])])
        around = [CLS, *asked, SEP] if name == "bert_tokens" else [*asked, 1]
        text, there = cutter.encode(row["text"]), batch["segment_ids"][i] > 0
        assert tokens[there].tolist() == [*around, *text, SEP if name == "bert_tokens" else 1]
        answerable = np.arange(80) >= len(around)
        answerable &= np.arange(80) < len(around) + len(text)
        assert (batch["answerable"][i] == answerable).all()
        second = (np.arange(80) >= len(around)) & there & (name == "bert_tokens")
        assert (batch["token_types"][i] == second).all()


def test_an_answer_without_room_is_named(tmp_path):
    row = {"text": "a " * 50 + "b", "question": "q", "answer": [100, 101]}
    source = lines([row], tmp_path / "q")
    data = adopted("bert_tokens", QuestionsConfig(source=source, seq_len=32), tmp_path)
    with pytest.raises(SourceError, match=r"line 1: the answer ends at token 54 of a row of 32"):
        opened(data, tmp_path)
    lines([row | {"text": "a \u200b b", "answer": [2, 3]}], tmp_path / "q")
    with pytest.raises(SourceError, match=r"line 1: no token of data\.tokenizer stands for"):
        opened(data, tmp_path)


def test_passages_of_files_have_the_rows_full(tmp_path):
    text = "".join(f"def f{i}(x):\n    return x + {i}\n\n\n" for i in range(60))
    for i in range(12):
        (tmp_path / f"{i}.py").write_text(text.replace("def f", f"def f{i}_"))
    data = TaggedConfig(source=f"tokens:{tmp_path}/*.py", seq_len=48)
    _, examples = opened(adopted("bert_tokens", data, tmp_path), tmp_path)
    batch = examples.take(np.arange(len(examples)))
    filled = batch["segment_ids"].sum(axis=1)
    assert np.median(filled) > 36
    whole = sum(len(path.read_bytes()) for path in tmp_path.glob("*.py"))
    assert len(examples.found.text) == whole  # nothing is cut off


def test_pairs_as_their_models_read_and_write_them(tmp_path):
    data = adopted("t5", PairsConfig(source="names:en-de", part="territories"), tmp_path)
    facts, examples = opened(data, tmp_path, "train")
    cutter, rows = examples.tokenizer, np.arange(0, len(examples), 9)
    batch, pairs = examples.take(rows), examples.of.pairs.take(examples.of.rows[rows])
    assert facts.sizes["vocab"] == 210
    for i, (source, target) in enumerate(pairs):
        there = batch["source_segments"][i] > 0
        assert batch["source"][i][there].tolist() == [*cutter.encode(source), 1]
        counts = batch["loss_mask"][i] > 0
        written = cutter.encode(target)
        assert batch["targets"][i][counts].tolist() == [*written, 1]
        assert batch["tokens"][i][counts].tolist() == [0, *written]
        assert batch["target_bytes"][i].sum() == len(target)
    every = examples.of.pairs.take(np.arange(len(examples.of.pairs)))
    assert facts.sizes["source_len"] == max(len(cutter.source(a)) for a, _ in every)
    assert facts.sizes["target_len"] == max(len(cutter.encode(b)) for _, b in every) + 1


@pytest.mark.parametrize("kind", ["labelled", "questions", "pairs"])
def test_bytes_go_out_and_come_in_as_the_same_rows(kind, tmp_path):
    """An exported run of bytes, whose tokenizer.json another reads."""
    plain = {"labelled": LabelledConfig, "questions": QuestionsConfig, "pairs": PairsConfig}[kind]()
    own = choices.kind(plain).tokenizer(plain, tmp_path)
    files = {"tokenizer.json": own.exported()[0]}
    data = exchanged.adopt(plain, files, (own.separator, None), tmp_path)
    theirs = choices.kind(data).tokenizer(data, tmp_path)
    if kind == "pairs":
        assert theirs.source("Dä") == own.source("Dä") == [*"Dä".encode()]
    assert (theirs.separator, theirs.begins, theirs.vocab) == (256, 256, 257)
    for both in ((b"a b",), ("q ä".encode(), b"text")) if kind != "pairs" else ():
        rows = [Rows(one, 9).row(*both) for one in (theirs, ByteTokenizer())]
        for a, b in zip(rows[0][::3], rows[1][::3], strict=True):
            assert a.tolist() == b.tolist()


@pytest.mark.parametrize("name", ["bert_label", "bert_tags", "bert_spans"])
def test_what_an_import_keeps(name, tmp_path):
    """The tokenizer of a finished classifier, tagger or reader is its run's, and goes out."""
    table, made = models.table(name), override(models.named(name), {"model.vocab": 240})
    theirs = tables.to_theirs(table, models.random_leaves(study.resolve_planned(made)))
    said = tables.written(table, made.model, models.LENGTH)
    files = {"tokenizer.json": vocabularies.made("bert_tokens").to_str().encode()}
    data = inward.adopted(made.data, said, files, tmp_path)
    assert (data.kind, data.tokenizer) == (made.data.kind, "imported")
    masks = beside_weights.mask_token(files)
    model, _ = inward.described(json.loads(json.dumps(said)) | {"_mask_token": masks}, theirs)
    assert masks == 4
    assert not model.mask_row
    cutter = choices.kind(data).tokenizer(data, tmp_path)
    assert cutter.exported()[0] == files["tokenizer.json"]
    assert Rows(cutter, 8).row(b"x").tokens.tolist() == [CLS, *cutter.encode("x"), SEP]
