"""Where images come from, by name: a folder with a prepared TFDS data set, with arrays, or with
pictures.

Takes the source of a config and the data directory; gives the folder, its splits, and a signature.
Called by `splits.py` and `stored.py`. A new source is a function and an entry in SOURCES.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.data.kinds.images import pictures
from scaling.data.store import build_once, key_of
from scaling.data.tfds import find_dataset, tfds_dirs
from scaling.errors import SourceError, nearest


@dataclass(frozen=True)
class Prepared:
    """A data set on this disk."""

    name: str  # the source, as a config writes it
    folder: Path
    signature: str  # changes when the images may have changed
    # What is in the folder: dataset_info.json and records; <part>.npz of pixels and labels; or
    # folders of pictures (`pictures.py`)
    form: Literal["tfds", "arrays", "pictures"] = "tfds"

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its splits."""
        if self.form == "arrays":
            return tuple(sorted(path.stem for path in self.folder.glob("*.npz")))
        if self.form == "pictures":
            return tuple(pictures.find(self.folder))
        info = json.loads((self.folder / "dataset_info.json").read_text())
        return tuple(split["name"] for split in info["splits"])


def _digits(argument: str, root: Path) -> Prepared:
    if argument:
        raise SourceError(f'source "digits:{argument}": digits takes no argument; write digits')
    signature = key_of(["digits", "every fifth is test", "1.0.0"])

    def build(folder: Path) -> None:
        from scaling.data.kinds.images import digits_builder

        digits_builder.write(folder)

    home = build_once(root / "tfds" / f"digits-{signature}", build)
    return Prepared("digits", home / "digits" / "1.0.0", signature)


def _tfds(argument: str, root: Path) -> Prepared:
    folder = find_dataset(argument, tfds_dirs(root))
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    written = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]
    return Prepared(f"tfds:{argument}", folder, key_of([str(folder), written]))


def _mnist1d(argument: str, root: Path) -> Prepared:
    from scaling.data.kinds.images import signals

    if argument:
        raise SourceError(f'source "mnist1d:{argument}": mnist1d takes no argument; write mnist1d')
    signature = key_of(["mnist1d", signals.VERSION])
    folder = build_once(root / "arrays" / f"mnist1d-{signature}", signals.write)
    return Prepared("mnist1d", folder, signature, "arrays")


def _folder(argument: str, root: Path) -> Prepared:
    folder = Path(argument).expanduser()
    files = [path for paths in pictures.find(folder).values() for path in paths]
    stats = [(str(path.relative_to(folder)), path.stat()) for path in files]
    written = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    signature = key_of([str(folder.resolve()), written])
    return Prepared(f"folder:{argument}", folder, signature, "pictures")


SOURCES: dict[str, Callable[[str, Path], Prepared]] = {
    "digits": _digits,
    "mnist1d": _mnist1d,
    "tfds": _tfds,
    "folder": _folder,
}


def find(source: str, root: Path) -> Prepared:
    """The data set that a config names: "digits", "mnist1d", "tfds:<name>[/config][:version]" or
    "folder:<path>".

    Raises:
      SourceError: an unknown source, a set that is not prepared (with how to), or a folder without
        classes.
    """
    prefix, _, argument = source.partition(":")
    if prefix not in SOURCES:
        raise SourceError(
            f'source "{source}" has no images{nearest(prefix, SOURCES)}; write digits, '
            "mnist1d or tfds:<name>, a TFDS set with features image and label"
        )
    return SOURCES[prefix](argument, root)
