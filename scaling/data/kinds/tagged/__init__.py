"""Texts with tags on their words: the token classes of Python, exactly as `tokenize` has them, or a
person's own JSON lines. The unit is the example, the tokens are bytes or those of a tokenizer of
others; the first of a word has its tag (as in Devlin et al. 2019, section 5.3).
"""

import io
import keyword
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.marks import added
from scaling.data.kinds import annotated
from scaling.data.kinds.annotated import AnnotatedConfig, Task, texts
from scaling.data.kinds.annotated.texts import Found, Names, Row
from scaling.data.kinds.python_files import python_files
from scaling.data.kinds.text.reading import matching
from scaling.data.kinds.text.rows import Rows, TokenRow
from scaling.data.kinds.text.text_files import objects, wrong
from scaling.data.store import key_of

_NONE = -1  # a byte without a tag
# No part of the text: what is said of its encoding and its indentation.
_EMPTY = ("ENCODING", "ENDMARKER", "INDENT", "DEDENT")


@dataclass(frozen=True)
class TaggedConfig(AnnotatedConfig):
    """Texts with tags (`docs/data.md` has the sources)."""

    kind: Literal["tagged"] = "tagged"
    source: str = "tokens"
    # Of tags their names in the order of their numbers, with commas; None: those met, sorted
    labels: str | None = added(None)


def _tokens(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Passages of Python files, the standard library's or a person's, with each token's class."""
    source = f"tokens:{rest}" if rest else "tokens"
    files = python_files(rest, source)

    def find() -> Found:
        read = [(text, list(classes(text))) for text in files.texts()]
        places = [(tag, source) for _, tags in read for _, tag in tags]
        names, number = texts.numbers(known, places)
        rows = []
        for text, tags in read:
            marks = np.full(len(text), _NONE, np.int32)
            for place, tag in tags:
                marks[place] = number[tag]
            for start, end in texts.passages(text, cut):
                if (marks[start:end] != _NONE).any():
                    rows.append(Row(text, text[start:end], marks[start:end]))
        return texts.gathered(rows, names)

    key = key_of(["tokens", files.signature, cut.key, list(known or ()), "v1"])
    return texts.kept(root / "annotated" / key, find)


def classes(text: bytes) -> Iterator[tuple[int, str]]:
    """(first byte, class) of every token of a Python source in UTF-8, but those of no bytes. A name
    that is reserved is a KEYWORD. Nothing of a source that is not Python.
    """
    try:
        lines = text.decode().splitlines(keepends=True)
        tokens = list(tokenize.tokenize(io.BytesIO(text).readline))
    except (UnicodeDecodeError, SyntaxError, tokenize.TokenError):
        return
    # `splitlines` cuts at more characters than Python's lines end with.
    lines = io.StringIO(text.decode(), newline="").readlines()
    starts = np.cumsum([0, *(len(line.encode()) for line in lines)])
    for token in tokens:
        name, (line, column) = tokenize.tok_name[token.type], token.start
        if name in _EMPTY or token.start == token.end or not token.string:
            continue
        before = len(lines[line - 1][:column].encode())
        reserved = name == "NAME" and keyword.iskeyword(token.string)
        yield int(starts[line - 1]) + before, "KEYWORD" if reserved else name


def _lines(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Own files: {"words": [...], "tags": [...]} a line; words are joined by spaces."""
    del root
    source, read, places = f"lines:{rest}", [], []
    for path in matching(rest, source, (".jsonl", ".ndjson", ".json")):
        for number, value in objects(path, source):
            place = f"{path}, line {number}"
            words, tags = (_words(value, name, source, place) for name in ("words", "tags"))
            if len(words) != len(tags):
                raise wrong(source, f"{place} has {len(words)} words and {len(tags)} tags")
            read.append((words, tags))
            places += [(tag, place) for tag in tags]
    names, number_of = texts.numbers(known, places)
    rows = []
    for words, tags in read:
        text = " ".join(words).encode("utf-8", "surrogatepass")
        marks, at = np.full(len(text), _NONE, np.int32), 0
        for word, tag in zip(words, tags, strict=True):
            marks[at] = number_of[tag]
            at += len(word.encode("utf-8", "surrogatepass")) + 1
        here = cut.cut(text)
        rows.append(Row(text, here, marks[: len(here)]))
    return texts.gathered(rows, names)


def _words(value: dict[str, Any], field: str, source: str, place: str) -> list[str]:
    listed = value.get(field)
    if not isinstance(listed, list) or not listed:
        raise wrong(source, f'{place} has no field "{field}" that is a list of words')
    if not all(isinstance(word, str) and word for word in listed):
        raise wrong(source, f'{place}: field "{field}" has what is no word, or an empty one')
    return listed


def _fill(found: Found, row: int, tokens: TokenRow, own: dict[str, np.ndarray]) -> None:
    """A word without a token has no tag; of words that share one, the first has its tag there."""
    start, end = found.bounds(row)
    marks = found.marks[start:end]
    (words,) = (marks != _NONE).nonzero()
    (places,) = (tokens.texts == 0).nonzero()
    firsts = np.searchsorted(np.maximum.accumulate(tokens.ends[places]), words, "right")
    behind, there = np.append(words[1:], end - start), firsts < len(places)
    words, firsts, behind = words[there], firsts[there], behind[there]
    there = tokens.starts[places[firsts]] < behind
    firsts, chosen = np.unique(firsts[there], return_index=True)
    own["tags"][0, places[firsts]] = marks[words[there][chosen]]
    own["tag_mask"][0, places[firsts]] = 1


def _shown(found: Found, row: int) -> str:
    start, end = found.bounds(row)
    text, marks = found.text[start:end].tobytes(), found.marks[start:end]
    (places,) = (marks != _NONE).nonzero()
    words = []
    for place, behind in zip(places, [*places[1:], len(text)], strict=True):
        word = text[place:behind].decode(errors="replace").rstrip()
        words.append(f"{found.names[marks[place]]} {word!r}")
    return " ".join(words)[:120]


KIND = annotated.record(
    Task(
        config=TaggedConfig,
        forms={"tokens": _tokens, "lines": _lines},
        files=frozenset({"tokens", "lines"}),
        said="tokens, tokens:<Python files> or lines:<files of JSON lines>",
        own={"tags": (True, "int32"), "tag_mask": (True, "float32")},
        weights=("tag_mask",),
        counted="tags",
        count=lambda found: len(found.names),
        texts=annotated.alone,
        fill=_fill,
        shown=_shown,
    )
)

__all__ = ["KIND", "TaggedConfig"]
