"""Texts with one label each: which package of the standard library a passage is from, which
language a name is in, a person's own JSON lines. The unit is the example, the tokens are bytes or
those of a tokenizer of others.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from scaling.config.marks import added
from scaling.data.kinds import annotated
from scaling.data.kinds.annotated import AnnotatedConfig, Task, texts
from scaling.data.kinds.annotated.texts import Found, Names, Row
from scaling.data.kinds.pairs import sources as pairs
from scaling.data.kinds.pairs import written
from scaling.data.kinds.text.reading import matching
from scaling.data.kinds.text.rows import Rows, TokenRow
from scaling.data.kinds.text.stdlib import StdlibFiles
from scaling.data.kinds.text.text_files import objects, text_of, wrong
from scaling.data.store import key_of
from scaling.errors import SourceError

_FILES = 8  # that a package has at least


@dataclass(frozen=True)
class LabelledConfig(AnnotatedConfig):
    """Texts with a label each (`docs/data.md` has the sources)."""

    kind: Literal["labelled"] = "labelled"
    source: str = "packages"
    # Of labels their names in the order of their numbers, with commas; None: those met, sorted
    labels: str | None = added(None)


def _packages(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Passages of the packages of the standard library with many files; a file is of one split."""
    if rest:
        raise SourceError(f'source "packages:{rest}": packages take no argument')
    files = StdlibFiles.of_this_python()

    def find() -> Found:
        many = Counter(name.split("/")[0] for name in files.names if "/" in name)
        names = tuple(sorted(name for name, count in many.items() if count >= _FILES))
        rows = []
        for name in files.names:
            top, _, inner = name.partition("/")
            if inner and top in names:
                text = (files.home / name).read_bytes()
                mark = [names.index(top)]
                for start, end in texts.passages(text, cut):
                    rows.append(Row(text, text[start:end], mark))
        return texts.gathered(rows, names)

    folder = root / "annotated" / key_of(["packages", files.signature, cut.key, _FILES, "v1"])
    return _known(texts.kept(folder, find), "packages", known)


def _names(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """What languages and countries are called in several languages; all that one is called is of
    one split, and a name that several languages have is of none.
    """
    del root
    locales = sorted(set(rest.split("-")))
    if len(locales) < 2:
        raise SourceError(f'source "names:{rest}" has one language; write names:de-en-fr')
    called: dict[bytes, list[tuple[str, str]]] = {}
    for locale in locales:
        found = written.locale(locale)
        for part in pairs.NAMES:
            for thing, name in pairs.called(part, found).items():
                called.setdefault(cut.cut(name.encode()), []).append((locale, f"{part}/{thing}"))
    names, number = texts.numbers(known, ((one, f'source "names:{rest}"') for one in locales))
    rows = [
        Row(where[0][1].encode(), text, [number[where[0][0]]])
        for text, where in called.items()
        if len({locale for locale, _ in where}) == 1
    ]
    return texts.gathered(rows, names)


def _lines(rest: str, cut: Rows, known: Names | None, root: Path) -> Found:
    """Own files: {"text": ..., "label": ...} a line."""
    del root
    source, read = f"lines:{rest}", []
    for path in matching(rest, source, (".jsonl", ".ndjson", ".json")):
        for number, value in objects(path, source):
            place = f"{path}, line {number}"
            label = value.get("label")
            if label is None or isinstance(label, dict | list):
                raise wrong(source, f'{place} has no field "label" that is a word or a number')
            label = label if isinstance(label, str) else json.dumps(label)
            read.append((text_of(value, "text", source, place), label, place))
    names, number_of = texts.numbers(known, [(label, place) for _, label, place in read])
    rows = [Row(text, cut.cut(text), [number_of[label]]) for text, label, _ in read]
    return texts.gathered(rows, names)


def _known(found: Found, source: str, known: Names | None) -> Found:
    """Raises SourceError where the labels are not those that are trained on."""
    if known is not None and known != found.names:
        raise SourceError(
            f'source "{source}": its labels are not those that are trained on '
            f"({', '.join(known[:5])}{', ...' * (len(known) > 5)}); give texts that have these"
        )
    return found


def _fill(found: Found, row: int, tokens: TokenRow, own: dict[str, np.ndarray]) -> None:
    own["label"][0] = found.marks[row, 0]
    own["weight"][0] = 1


def _shown(found: Found, row: int) -> str:
    start, end = found.bounds(row)
    text = found.text[start:end].tobytes().decode(errors="replace")
    return f"{found.names[found.marks[row, 0]]}: {text[:80]!r}"


KIND = annotated.record(
    Task(
        config=LabelledConfig,
        forms={"packages": _packages, "names": _names, "lines": _lines},
        files=frozenset({"lines"}),
        said="packages, names:de-en-fr or lines:<files of JSON lines>",
        own={"label": (False, "int32"), "weight": (False, "float32")},
        weights=("weight",),
        counted="classes",
        count=lambda found: len(found.names),
        texts=annotated.alone,
        fill=_fill,
        shown=_shown,
    )
)

__all__ = ["KIND", "LabelledConfig"]
