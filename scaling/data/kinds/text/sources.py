"""Where documents come from, by name: the kinds of sources, and how one is opened.

A source is opened from its name, a part and the data directory. Called by `documents.py`. A new
kind is a class with the members of `Source` and one entry in SOURCES.
"""

from collections.abc import Callable
from pathlib import Path

from scaling.data.kinds.text.columns import Parquet, Saved
from scaling.data.kinds.text.source import Source
from scaling.data.kinds.text.stdlib import Stdlib
from scaling.data.kinds.text.text_files import JsonLines, Text
from scaling.data.kinds.text.tfds import Tfds
from scaling.errors import SourceError, nearest

SOURCES: dict[str, Callable[[str, str | None, Path], Source]] = {
    "stdlib": Stdlib,
    "text": Text,
    "jsonl": JsonLines,
    "parquet": Parquet,
    "hf": Saved,
    "tfds": Tfds,
}
FORMS = (  # how each is written
    "stdlib, text:<files>, jsonl:<files>[#field], parquet:<files>[#column], hf:<folder>[#column] "
    "or tfds:<name>"
)


def open_source(name: str, part: str | None, root: Path) -> Source:
    """The source that a config names, e.g. "stdlib" or "text:books/*.txt".

    Raises:
      SourceError: an unknown prefix or part, or nothing where the name points.
    """
    prefix, colon, argument = name.partition(":")
    if prefix in SOURCES:
        return SOURCES[prefix](argument, part, root)
    if not colon and Path(name).expanduser().exists():
        raise SourceError(f'source "{name}" has no kind; write text:{name}, if it is text')
    raise SourceError(
        f'source "{name}": unknown prefix "{prefix}"{nearest(prefix, SOURCES)}; write {FORMS}'
    )
