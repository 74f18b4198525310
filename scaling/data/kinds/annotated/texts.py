"""Distinct texts and what is said of each, as a few arrays; how they are gathered, cut and kept.

Called by the kinds that find them.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling.data.kinds.text.rows import Rows
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError

Names = tuple[str, ...]


class Row(NamedTuple):
    """A text as it was found."""

    whole: bytes  # what goes to one split with all that is said of it: a document, or the text
    text: bytes
    mark: Any  # what is said: int32 [M], or [bytes of the text]


@dataclass(frozen=True, eq=False)
class Found:
    """The distinct texts of a source."""

    text: np.ndarray  # all of them, uint8
    ends: np.ndarray  # where each ends: int64 [N]
    marks: np.ndarray  # int32 [N, M], or [bytes of the texts]
    groups: np.ndarray  # hash of what each is of: uint64 [N]
    names: Names  # of labels or tags, by number

    def __len__(self) -> int:
        return len(self.ends)

    def bounds(self, row: int) -> tuple[int, int]:
        """First byte of a text, and the one behind its last."""
        return int(self.ends[row - 1]) if row else 0, int(self.ends[row])

    @functools.cached_property
    def content(self) -> str:
        """Hash of all."""
        arrays = (self.text, self.ends, self.marks, self.groups)
        return key_of(
            [list(self.names), *(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays)]
        )


def gathered(rows: Iterable[Row], names: Names) -> Found:
    """Of texts as they come; one that was there before with the same mark is dropped."""
    seen: dict[tuple[bytes, bytes], None] = {}
    text, marks, ends, groups = bytearray(), [], [], []
    for row in rows:
        mark = np.asarray(row.mark, np.int32)
        if (key := (row.text, mark.tobytes())) in seen:
            continue
        seen[key] = None
        text += row.text
        ends.append(len(text))
        marks.append(mark)
        groups.append(int.from_bytes(hashlib.sha256(row.whole).digest()[:8], "big"))
    whole = np.concatenate(marks) if marks else np.zeros(0, np.int32)
    return Found(
        np.frombuffer(bytes(text), np.uint8),
        np.array(ends, np.int64),
        whole.reshape(len(ends), -1) if len(whole) != len(text) and len(ends) else whole,
        np.array(groups, np.uint64),
        names,
    )


def kept(folder: Path, find: Callable[[], Found]) -> Found:
    """What `find` gives; found once, then read from a folder."""

    def build(folder: Path) -> None:
        found = find()
        arrays = {name: getattr(found, name) for name in ("text", "ends", "marks", "groups")}
        np.savez(folder / "found.npz", names=np.array(found.names, str), **arrays)

    with np.load(build_once(folder, build) / "found.npz") as there:
        arrays = {name: there[name] for name in there.files}
    return Found(**arrays | {"names": tuple(str(name) for name in arrays["names"])})


def passages(text: bytes, rows: Rows) -> Iterator[tuple[int, int]]:
    """A text cut into pieces that rows have room for: after the last line end that leaves a piece
    at least half of that, where there is one. What is white space alone is passed over.
    """
    start, room, ends = 0, max(1, rows.room()), rows.ends(text)
    while start < len(text):
        behind = int(np.searchsorted(ends, start, "right")) + room
        end = int(ends[behind - 1]) if behind < len(ends) else len(text)
        if end < len(text):
            line_end = text.rfind(b"\n", start + (end - start) // 2, end) + 1
            end = line_end or end
        if text[start:end].strip():
            yield start, end
        start = end


def numbers(known: Names | None, labels: Iterable[tuple[str, str]]) -> tuple[Names, dict[str, int]]:
    """Labels in their order, and the number of each. Of (label, where it stands).

    Raises SourceError for one that is not among the known.
    """
    if known is None:
        known = tuple(sorted({label for label, _ in labels}))
        return known, {label: i for i, label in enumerate(known)}
    number = {label: i for i, label in enumerate(known)}
    for label, place in labels:
        if label not in number:
            raise SourceError(
                f'{place}: "{label}" is not among the {len(known)} that are trained on '
                f"({', '.join(known[:5])}{', ...' * (len(known) > 5)})"
            )
    return known, number
