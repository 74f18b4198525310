"""A person's own pairs: two files of aligned lines, or two columns of a table.

Takes what stands behind `lines:` or `table:`; gives (meaning, source, target), where the meaning is
the source: what is said in two ways is one thing. Called by `sources.py`.
"""

from collections.abc import Iterator
from pathlib import Path

from scaling.data import tables
from scaling.errors import SourceError

Row = tuple[str, str, str]


def _paths(form: str, rest: str) -> list[Path]:
    parts = rest.split("=", 1) if form == "lines" else [rest.split("#", 1)[0]]
    return [Path(part).expanduser() for part in parts]


def stamps(form: str, rest: str) -> tuple[object, ...]:
    """What tells one state of the files from another; () of a form without files."""
    if form not in ("lines", "table"):
        return ()
    found = [path.stat() for path in _paths(form, rest) if path.is_file()]
    return tuple((one.st_mtime_ns, one.st_size) for one in found)


def lines(rest: str) -> Iterator[Row]:
    """Of `<file of sources>=<file of targets>`, line by line. Raises SourceError."""
    paths = _paths("lines", rest)
    if len(paths) != 2:
        raise SourceError(
            f'source "lines:{rest}" names one file; write lines:<file of sources>=<file of targets>'
        )
    sides = [tables.text(path).splitlines() for path in paths]
    counts = [len(side) for side in sides]
    if counts[0] != counts[1]:
        raise SourceError(
            f"{paths[0]} has {counts[0]} lines and {paths[1]} {counts[1]}: line by line they are "
            "to be pairs; add the missing ones"
        )
    for number, (source, target) in enumerate(zip(*sides, strict=True), 1):
        source, target = source.strip(), target.strip()
        if not source and not target:
            continue
        if not source or not target:
            empty = paths[0] if not source else paths[1]
            raise SourceError(f"{empty}: line {number} is empty, its partner is not; pair missing")
        yield source, source, target


def table(rest: str) -> Iterator[Row]:
    """Of `<file>#<column>,<column>`, by default its first two columns. Raises SourceError."""
    (path,) = _paths("table", rest)
    _, _, wanted = rest.partition("#")
    for source, target in zip(*tables.chosen(path, wanted, 2, "#source,target"), strict=True):
        yield source, source, target
