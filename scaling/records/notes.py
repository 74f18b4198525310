"""What people say of a run: tags and notes, in its `notes.jsonl`, which is only ever added to.

Several people may write at once, and to a run that is being trained. Called by `launch.py tag`, by
`shelf.py`, which writes down what it moves, and by the table of runs. No jax in this file.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scaling import files
from scaling.errors import DamagedError, UserError
from scaling.records import run_files, strict_json
from scaling.records.directory import RunDirectory

FILE = "notes.jsonl"


@dataclass(frozen=True)
class Notes:
    """Of one run."""

    tags: tuple[str, ...] = ()  # in the order of the alphabet
    texts: tuple[str, ...] = ()  # oldest first

    @property
    def last(self) -> str | None:
        """The newest note."""
        return self.texts[-1] if self.texts else None


def read(run: RunDirectory) -> Notes:
    """What was said of a run; lines that cannot be read are left out, no result depends on them."""
    tags, texts = set[str](), list[str]()
    try:
        lines = [
            line for _, _, line in run_files.tried(FILE, run_files.read(run.path / FILE) or b"")
        ]
    except DamagedError:
        return Notes()
    for line in lines:
        if isinstance(line, ValueError):
            continue
        tags = (tags | {*line.get("add", ())}) - {*line.get("remove", ())}
        texts += [line["note"]] if line.get("note") else []
    return Notes(tuple(sorted(tags)), tuple(texts))


def write(
    run: RunDirectory, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None
) -> None:
    """Tags are put on the run and taken off it, and a note is added. Raises UserError for a tag
    that `where` could not name, or a run that cannot be written to.
    """
    for tag in (*add, *remove):
        if not tag or any(c in tag for c in ",'\"\n"):
            raise UserError(f"tag {tag!r}: a tag is a word without commas and quotes")
    _append(run, {"add": [*add], "remove": [*remove], "note": note})


def write_move(run: RunDirectory, folder: str) -> None:
    """That it is moved now, and to where."""
    _append(run, {"moved": folder})


def _append(run: RunDirectory, said: Mapping[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = {name: value for name, value in said.items() if value}
    files.append(run.path / FILE, strict_json.encode({"time": now, **kept}))
