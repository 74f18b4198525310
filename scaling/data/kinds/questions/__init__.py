"""Questions whose answer is a span of the text: the default, the annotation or the documentation of
a function's parameter, exactly as `ast` has them, or a person's own JSON lines. The unit is the
example, a question and a text; the tokens are bytes, a separator before each, or those of a
tokenizer of others, with what it puts around two texts.
"""

import ast
import dataclasses
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scaling.data.kinds import annotated
from scaling.data.kinds.annotated import AnnotatedConfig, Task, texts
from scaling.data.kinds.annotated.texts import Found, Names, Row
from scaling.data.kinds.python_files import python_files
from scaling.data.kinds.text.reading import matching
from scaling.data.kinds.text.rows import Rows, TokenRow
from scaling.data.kinds.text.text_files import objects, text_of, wrong
from scaling.data.store import key_of

_TEXT = 1  # that of two in a row


@dataclass(frozen=True)
class QuestionsConfig(AnnotatedConfig):
    """Questions and texts (`docs/data.md` has the sources)."""

    kind: Literal["questions"] = "questions"
    source: str = "parameters"
    seq_len: int = 192  # tokens of a row; what is longer is cut off


class Question(NamedTuple):
    """A question and where its answer is."""

    question: bytes
    text: bytes
    start: int  # first byte of the answer
    end: int  # the one behind its last


def _parameters(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Functions of Python files, the standard library's or a person's; a file is of one split."""
    del known
    source = f"parameters:{rest}" if rest else "parameters"
    files = python_files(rest, source)

    def find() -> Found:
        rows = [_row(text, one, cut) for text in files.texts() for one in questions(text)]
        return texts.gathered((row for row in rows if row is not None), ())

    key = key_of(["parameters", files.signature, cut.key, "v1"])
    return texts.kept(root / "annotated" / key, find)


def _row(whole: bytes, one: Question, cut: Rows) -> Row | None:
    """None where the answer is beyond the room, or has no tokens."""
    here = cut.cut(one.text, one.question)
    if one.end > len(here) or _answer(cut, one, here) is None:
        return None
    return Row(whole, one.question + here, [len(one.question), one.start, one.end - 1])


def _answer(cut: Rows, one: Question, text: bytes) -> tuple[int, int] | None:
    return cut.row(one.question, text).found(_TEXT, one.start, one.end - 1)


def questions(source: bytes) -> Iterator[Question]:
    """All that can be asked of the functions of a Python source in UTF-8: "default of x",
    "annotation of x" and "documentation of x", the latter of a line "x: ..." or "x -- ..." of the
    docstring. Nothing of a source that is not Python.
    """
    try:
        source.decode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a person's own file: its escapes are not ours
            tree = ast.parse(source)
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return
    starts = np.cumsum([0, *(len(line) + 1 for line in source.split(b"\n"))])

    def span(node: Any) -> tuple[int, int]:
        first = int(starts[node.lineno - 1]) + node.col_offset
        return first, int(starts[node.end_lineno - 1]) + node.end_col_offset

    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first, last = span(node)
        text = source[first:last]
        for what, name, (start, end) in _answers(node, span, source):
            yield Question(f"{what} of {name}".encode(), text, start - first, end - first)


def _answers(node: Any, span: Any, source: bytes) -> Iterator[tuple[str, str, tuple[int, int]]]:
    plain = [*node.args.posonlyargs, *node.args.args]
    absent = [None] * (len(plain) - len(node.args.defaults))
    defaults = [*absent, *node.args.defaults, *node.args.kw_defaults]
    docs = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    for parameter, default in zip([*plain, *node.args.kwonlyargs], defaults, strict=True):
        name = parameter.arg
        if default is not None:
            yield "default", name, span(default)
        if parameter.annotation is not None:
            yield "annotation", name, span(parameter.annotation)
        if docs is not None:
            start, end = span(docs)
            mark = rf"(?m)^[ \t]*(?:[-*][ \t]+)?[`*]*{name}[`*]*[ \t]*(?::|--?)[ \t]+(\S.*?)[ \t]*$"
            if found := re.search(mark.encode(), source[start:end]):
                yield "documentation", name, (start + found.start(1), start + found.end(1))


def _lines(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Own files: {"text": ..., "question": ..., "answer": [start, end]} a line, in characters."""
    del known, root
    source, rows = f"lines:{rest}", []
    for path in matching(rest, source, (".jsonl", ".ndjson", ".json")):
        for number, value in objects(path, source):
            place = f"{path}, line {number}"
            text, question = (text_of(value, name, source, place) for name in ("text", "question"))
            span, length = value.get("answer"), len(value["text"])
            if not (isinstance(span, list) and [type(x) for x in span] == [int, int]):
                raise wrong(source, f'{place}: field "answer" is no [start, end] of characters')
            if not 0 <= span[0] < span[1] <= length:
                raise wrong(
                    source,
                    f"{place}: the answer is characters {span[0]} to {span[1]} of a text of "
                    f"{length}; it must lie in the text, and have a character at least",
                )
            start, end = (len(value["text"][:at].encode("utf-8", "surrogatepass")) for at in span)
            one = Question(question, text, start, end)
            row = _row(text, one, cut)
            if row is None:
                raise wrong(source, f"{place}: {_missing(cut, one)}")
            rows.append(row)
    return texts.gathered(rows, ())


def _missing(cut: Rows, one: Question) -> str:
    """Why a row has no answer."""
    longer = dataclasses.replace(cut, length=sys.maxsize)
    answer = _answer(longer, one, one.text)
    if answer is None:
        return (
            "no token of data.tokenizer stands for the answer or for its end; leave white space "
            "around it out"
        )
    return f"the answer ends at token {answer[1] + 1} of a row of {cut.length}; raise data.seq_len"


def _texts(found: Found, row: int) -> tuple[bytes, ...]:
    start, end = found.bounds(row)
    asked = start + int(found.marks[row, 0])
    return found.text[start:asked].tobytes(), found.text[asked:end].tobytes()


def _fill(found: Found, row: int, tokens: TokenRow, own: dict[str, np.ndarray]) -> None:
    _, first, last = found.marks[row].tolist()
    answer = tokens.found(_TEXT, first, last)
    assert answer is not None  # or the text would not be among those that were found
    own["token_types"][0, : len(tokens.types)] = tokens.types
    own["answerable"][0, : len(tokens.texts)] = tokens.texts == _TEXT
    (own["start"][0], own["end"][0]), own["weight"][0] = answer, 1


def _shown(found: Found, row: int) -> str:
    start, end = found.bounds(row)
    asked, first, last = found.marks[row].tolist()
    question, text = found.text[start : start + asked], found.text[start + asked : end]
    parts = (question, text, text[first : last + 1])
    said = [part.tobytes().decode(errors="replace") for part in parts]
    return f"{said[0]}: {said[1][:60]!r} -> {said[2]!r}"


KIND = annotated.record(
    Task(
        config=QuestionsConfig,
        forms={"parameters": _parameters, "lines": _lines},
        files=frozenset({"parameters", "lines"}),
        said="parameters, parameters:<Python files> or lines:<files of JSON lines>",
        own={
            "token_types": (True, "int32"),
            "answerable": (True, "float32"),
            "start": (False, "int32"),
            "end": (False, "int32"),
            "weight": (False, "float32"),
        },
        weights=("weight",),
        counted="spans",
        count=lambda found: 1,
        texts=_texts,
        fill=_fill,
        shown=_shown,
    )
)

__all__ = ["KIND", "QuestionsConfig"]
