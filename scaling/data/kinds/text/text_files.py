"""`text:<files>`, each file a document, and `jsonl:<files>[#field]`, each line one.

`<files>` is a glob, a name or a folder; any of them may be compressed. Called by `sources.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data.kinds.text.reading import matching, opened_text, whole_text
from scaling.data.kinds.text.source import Document, choose, stat
from scaling.data.store import key_of
from scaling.errors import SourceError, nearest

DEFAULT_FIELD = "text"


class Text:
    """Local files, each a document."""

    part = "all"

    def __init__(self, pattern: str, part: str | None, root: Path):
        del root
        self.name = f"text:{pattern}"
        choose(part, ("all",), "all", self.name)
        self.paths = matching(pattern, self.name)

    def signature(self) -> str:
        return key_of([stat(path) for path in self.paths])

    def documents(self) -> Iterator[Document]:
        for path in self.paths:
            yield Document(str(path), whole_text(path, self.name))


def pattern_and_field(argument: str) -> tuple[str, str]:
    """ "data/*.jsonl#body" in two; the field is "text" where none is given."""
    pattern, hash_sign, field = argument.rpartition("#")
    if not hash_sign or "/" in field:  # a folder's name may have the sign, too
        return argument, DEFAULT_FIELD
    return pattern, field or DEFAULT_FIELD


class JsonLines:
    """Files of JSON objects, one a line, one field of which is the document; blank lines are not
    objects.
    """

    part = "all"

    def __init__(self, argument: str, part: str | None, root: Path):
        del root
        self.name = f"jsonl:{argument}"
        choose(part, ("all",), "all", self.name)
        self.pattern, self.field = pattern_and_field(argument)
        self.paths = matching(self.pattern, self.name, (".jsonl", ".ndjson", ".json"))

    def signature(self) -> str:
        return key_of([stat(path) for path in self.paths])

    def documents(self) -> Iterator[Document]:
        for path in self.paths:
            for number, value in objects(path, self.name):
                text = self._text(value, f"{path}, line {number}")
                yield Document(f"{path}:{number}", text)

    def _text(self, value: dict[str, Any], place: str) -> bytes:
        if self.field not in value:
            raise wrong(
                self.name,
                f'{place} has no field "{self.field}"{nearest(self.field, value)}; name the one '
                f"that is text: jsonl:{self.pattern}#<field>",
            )
        return text_of(value, self.field, self.name, place)


def objects(path: Path, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line, the object in it) of a file of JSON lines; blank lines are passed over.
    Raises SourceError, naming file and line.
    """
    with opened_text(path, source) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _object(line, source, f"{path}, line {number}")


def _object(line: bytes, source: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8 are a ValueError
        is_list = line.strip() == b"[" or line.lstrip().startswith(b"[{")
        hint = "; one object a line is read, not one list of them" if is_list else ""
        raise wrong(source, f"{place} is not JSON: {error}{hint}") from error
    if not isinstance(value, dict):
        raise wrong(source, f"{place} is {_KINDS[type(value)]}, not an object with fields")
    return value


def text_of(value: dict[str, Any], field: str, source: str, place: str) -> bytes:
    """A field of an object that is text. Raises SourceError where it is none."""
    text = value.get(field)
    if not isinstance(text, str):
        raise wrong(source, f'{place}: field "{field}" is {_KINDS[type(text)]}, not text')
    # A lone half of a surrogate pair, which JSON can write, is kept, too.
    return text.encode("utf-8", "surrogatepass")


def wrong(source: str, what: str) -> SourceError:
    """What is wrong with a source, by its name."""
    return SourceError(f'source "{source}": {what}')


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
