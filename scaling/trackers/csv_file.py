"""A CSV file a run, `<folder>/<name>.csv`: step, metric, value."""

import csv
import io
import pathlib

from scaling import files
from scaling.trackers import About, Rows


class _Session:
    def __init__(self, path: pathlib.Path):
        self._path = path
        files.make_directory(path.parent)
        if not path.exists():
            self._write([("step", "metric", "value")])

    def log(self, rows: Rows) -> None:
        self._write([(step, name, value) for step, row in rows for name, value in row.items()])

    def close(self, state: str) -> None:
        """Nothing is held."""

    def _write(self, lines: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        files.append(self._path, text.getvalue().encode())


def open(about: About, place: str) -> _Session:
    """`place`: the folder; "": that of the workdir."""
    folder = pathlib.Path(place or about.folder, about.group or "")
    return _Session(folder / f"{about.name}.csv")
