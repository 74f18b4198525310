"""Texts of which something is said: own files and Python's, their splits and tokens, and what is
wrong with files.
"""

import ast
import io
import json
import tokenize
from pathlib import Path

import numpy as np
import pytest

from scaling.config import choices
from scaling.data.kinds.labelled import LabelledConfig
from scaling.data.kinds.questions import QuestionsConfig, questions
from scaling.data.kinds.tagged import TaggedConfig, classes
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.errors import ConfigError, SourceError

SOURCE = b'''# \xc3\xa4
def f(a, bb: "int | None" = None, *, c=(1, 2)):
    """Do.

    Args:
      bb: how many, \xc3\xbc
      c -- a pair
    """
    return {"x": a if bb else c}
'''
CONFIGS = {"labelled": LabelledConfig, "tagged": TaggedConfig, "questions": QuestionsConfig}


def opened(kind: str, split: str, root: Path, **fields: object):
    record, data = choices.record("data", kind), CONFIGS[kind](**fields)
    data = record.resolve(data, record.facts(data, data, root))
    return record.examples(data, data, split, root)


@pytest.fixture
def own(tmp_path: Path):
    """own(rows): "lines:" of a file of them, as JSON or as they are."""

    def write(rows: list, name: str = "own") -> str:
        path = tmp_path / f"{name}.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines))
        return f"lines:{path}"

    return write


def texts(count: int) -> list[str]:
    return [f"text {i * i} ä" for i in range(count)]


def test_labels_of_own_lines(own, tmp_path):
    rows = [{"text": text, "label": ["b", "a", 3][i % 3]} for i, text in enumerate(texts(40))]
    examples = opened("labelled", "all", tmp_path, source=own(rows), seq_len=24)
    batch = examples.take(np.arange(40))
    names = ["3", "a", "b"]
    for i, row in enumerate(rows):
        tokens = batch["tokens"][i][batch["segment_ids"][i] > 0]
        assert tokens[0] == ByteTokenizer.separator
        assert ByteTokenizer().decode(tokens).decode() == row["text"]
        assert names[batch["label"][i]] == str(row["label"])


def test_tags_of_own_lines_stand_at_the_first_byte_of_a_word(own, tmp_path):
    rows = [{"words": [f"w{i}", "ää", "x"], "tags": ["N", "A", "N"]} for i in range(30)]
    batch = opened("tagged", "all", tmp_path, source=own(rows), seq_len=16).take(np.arange(30))
    for i, row in enumerate(rows):
        (places,) = (batch["tag_mask"][i] > 0).nonzero()
        text = " ".join(row["words"]).encode()
        assert [text[place - 1 : place] for place in places] == [b"w", "ä".encode()[:1], b"x"]
        assert [("A", "N")[tag] for tag in batch["tags"][i][places]] == row["tags"]


def test_answers_of_own_lines_are_spans_of_characters(own, tmp_path):
    rows = [
        {"text": f"ä {i} b", "question": "q", "answer": [2, 2 + len(str(i))]} for i in range(40)
    ]
    examples = opened("questions", "all", tmp_path, source=own(rows), seq_len=16)
    batch = examples.take(np.arange(40))
    for i in range(40):
        span = batch["tokens"][i][batch["start"][i] : batch["end"][i] + 1]
        assert ByteTokenizer().decode(span) == str(i).encode()
        assert batch["answerable"][i][batch["start"][i]] == 1
        first = batch["answerable"][i].argmax()
        assert batch["tokens"][i][: first + 2].tolist() == [256, ord("q"), 256, *"ä".encode()]
        assert batch["token_types"][i][:first].tolist() == [0, 0, 1]


def test_token_classes_are_those_of_tokenize():
    found = dict(classes(SOURCE))
    tokens = tokenize.tokenize(io.BytesIO(SOURCE).readline)
    wanted = [t for t in tokens if t.string and t.type not in (tokenize.INDENT, tokenize.ENCODING)]
    assert len(found) == len(wanted)
    text, at = SOURCE.decode(), 0
    for (place, _), token in zip(found.items(), wanted, strict=True):
        at = text.index(token.string, at)
        assert len(text[:at].encode()) == place
        at += len(token.string)
    for word, named in ((b"#", "COMMENT"), (b"def", "KEYWORD"), (b"f(", "NAME"), (b"(", "OP")):
        assert found[SOURCE.index(word)] == named
    assert not list(classes(b"def ("))


def test_questions_are_those_of_ast():
    found = {one.question: one.text[one.start : one.end] for one in questions(SOURCE)}
    assert found == {
        b"default of bb": b"None",
        b"default of c": b"(1, 2)",
        b"annotation of bb": b'"int | None"',
        b"documentation of bb": "how many, ü".encode(),
        b"documentation of c": b"a pair",
    }
    (function,) = ast.parse(SOURCE).body
    assert ast.unparse(function.args.kw_defaults[0]) == "(1, 2)"
    assert not list(questions(b"def ("))


@pytest.mark.parametrize("kind", ["tagged", "questions"])
def test_a_file_is_of_one_split(kind, tmp_path):
    form = {"tagged": "tokens", "questions": "parameters"}[kind]
    for i in range(40):
        body = "".join(f"def f{i}_{j}(a{j}={i * j}):\n    return a{j}\n\n\n" for j in range(6))
        (tmp_path / f"{i}.py").write_text(body)
    fields = {"source": f"{form}:{tmp_path}/*.py", "seq_len": 40}
    parts = {s: opened(kind, s, tmp_path, **fields) for s in ("train", "validation", "all")}
    assert len(parts["train"]) + len(parts["validation"]) == len(parts["all"])
    groups = [set(parts[s].found.groups[parts[s].rows]) for s in ("train", "validation")]
    assert groups[1]
    assert not groups[0] & groups[1]
    record, data = choices.record("data", kind), CONFIGS[kind](**fields)
    assert record.shared(data, "validation", data, tmp_path) == 0
    assert record.shared(data, "all", data, tmp_path) == len(parts["train"])


def test_a_name_in_two_languages_is_of_none(tmp_path):
    examples = opened("labelled", "all", tmp_path, source="names:de-en", seq_len=48)
    found = examples.found
    said = {found.text[slice(*found.bounds(row))].tobytes(): row for row in range(len(found))}
    assert found.names == ("de", "en")
    assert found.marks[said[b"Deutsch"], 0] == 0
    assert found.marks[said[b"German"], 0] == 1
    assert b"Bambara" not in said


GOOD = {
    "labelled": {"text": "a", "label": "x"},
    "tagged": {"words": ["a"], "tags": ["x"]},
    "questions": {"text": "abc", "question": "q", "answer": [0, 1]},
}


@pytest.mark.parametrize(
    ("kind", "row", "named"),
    [
        ("labelled", "{", "line 2 is not JSON"),
        ("labelled", "[]", "line 2 is a list"),
        ("labelled", {"label": "x"}, 'line 2: field "text" is null'),
        ("labelled", {"text": "b"}, 'line 2 has no field "label"'),
        ("tagged", {"words": ["a", "b"], "tags": ["x"]}, "line 2 has 2 words and 1 tags"),
        ("tagged", {"words": "a b", "tags": ["x"]}, 'line 2 has no field "words"'),
        ("tagged", {"words": ["a", ""], "tags": ["x", "x"]}, 'line 2: field "words"'),
        ("questions", {"text": "a", "question": "q", "answer": [0, 2]}, "line 2: the answer is"),
        ("questions", {"text": "a", "question": "q", "answer": "a"}, 'line 2: field "answer"'),
        ("questions", {"text": "a" * 99, "question": "q", "answer": [90, 99]}, "data.seq_len"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(kind, row, named, own, tmp_path):
    source = own([GOOD[kind], row])
    with pytest.raises(SourceError, match=named):
        opened(kind, "all", tmp_path, source=source, seq_len=32)


@pytest.mark.parametrize("kind", ["labelled", "tagged"])
def test_a_label_that_is_not_trained_on_is_named(kind, own, tmp_path):
    rows = [GOOD[kind] | {next(iter(GOOD[kind])): x} for x in (texts(40))]
    if kind == "tagged":
        rows = [{"words": [text.split()[1]], "tags": ["x"]} for text in texts(40)]
    other = {"labelled": {"text": "b", "label": "y"}, "tagged": {"words": ["b"], "tags": ["y"]}}
    record = choices.record("data", kind)
    train = CONFIGS[kind](source=own(rows))
    data = CONFIGS[kind](source=own([other[kind]], "other"))
    with pytest.raises(SourceError, match=r'other.jsonl, line 1: "y" is not among the 1'):
        record.facts(data, train, tmp_path)


def test_other_mistakes(own, tmp_path):
    with pytest.raises(SourceError, match="write packages"):
        opened("labelled", "all", tmp_path, source="package")
    with pytest.raises(SourceError, match="one language"):
        opened("labelled", "all", tmp_path, source="names:de")
    with pytest.raises(SourceError, match="no text is in its validation split"):
        opened("labelled", "all", tmp_path, source=own([GOOD["labelled"]]))
    source = own([{"text": text, "label": "x"} for text in texts(40)])
    with pytest.raises(ConfigError, match=r"data\.classes=7"):
        opened("labelled", "all", tmp_path, source=source, classes=7)
    examples = opened("labelled", "train", tmp_path, source=source)
    with pytest.raises(ConfigError, match="unique_examples"):
        opened("labelled", "all", tmp_path, source=source, unique_examples=len(examples) + 1)
    data = LabelledConfig(source=source, corpus="0" * 16)
    with pytest.raises(SourceError, match="wanted"):
        choices.record("data", "labelled").examples(data, data, "train", tmp_path)
