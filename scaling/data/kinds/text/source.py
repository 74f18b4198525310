"""What a source of documents is: what every kind of them has, and what they share.

The kinds are in `text_files.py`, `columns.py`, `tfds.py` and `stdlib.py`; `sources.py` opens one by
its name.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scaling.errors import SourceError, nearest


@dataclass(frozen=True)
class Document:
    """One text, as bytes: nothing is said about its encoding."""

    name: str  # where it is: a file, a line of one, an example of a data set
    text: bytes


class Source(Protocol):
    """What every source has."""

    @property
    def part(self) -> str:
        """The part that is read, the default filled in."""

    def signature(self) -> str:
        """Changes when the documents may have changed; takes milliseconds."""

    def documents(self) -> Iterator[Document]:
        """Every document of the part, in any order. Raises SourceError when there is none."""


def choose(part: str | None, parts: tuple[str, ...], default: str, name: str) -> str:
    """The part of the source `name`. Raises SourceError for one that it does not have."""
    if part is not None and part not in parts:
        raise SourceError(f'source "{name}" has no part "{part}"{nearest(part, parts)}', "part")
    return default if part is None else part


def stat(path: Path) -> list[Any]:
    """What changes when a file is written: its path, bytes, and time in nanoseconds."""
    found = os.stat(path)
    return [str(path), found.st_size, found.st_mtime_ns]
