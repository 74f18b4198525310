"""Where documents come from: `stdlib`, `text:<glob>`, `tfds:<name>`.

A source is opened from its name, a part and the data directory; it yields documents, and it has a
signature that is cheap to compute and changes when the documents may have changed, so that a corpus
is prepared once. Called by `corpus.py`. A new source is a class with these members and one entry in
SOURCES.
"""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from scaling.data.stdlib import StdlibFiles
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError, nearest


@dataclass(frozen=True)
class Document:
    """One text, as bytes: nothing is said about its encoding."""

    name: str
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


def open_source(name: str, part: str | None, root: Path) -> Source:
    """The source that a config names, e.g. "stdlib" or "text:books/*.txt".

    Raises:
      SourceError: an unknown prefix or part, or nothing where the name points.
    """
    prefix, _, argument = name.partition(":")
    if prefix not in SOURCES:
        raise SourceError(
            f'source "{name}": unknown prefix "{prefix}"{nearest(prefix, SOURCES)}; '
            "write stdlib, text:<glob> or tfds:<name>"
        )
    return SOURCES[prefix](argument, part, root)


def _choose(part: str | None, parts: tuple[str, ...], default: str, name: str) -> str:
    if part is not None and part not in parts:
        raise SourceError(f'source "{name}" has no part "{part}"{nearest(part, parts)}', "part")
    return default if part is None else part


# ---- text:<glob>


class Text:
    """Local files, each a document."""

    part = "all"

    def __init__(self, pattern: str, part: str | None, root: Path):
        del root
        self.name = f"text:{pattern}"
        _choose(part, ("all",), "all", self.name)
        found = glob.glob(os.path.expanduser(pattern), recursive=True)
        self.paths = sorted(Path(path).absolute() for path in found if os.path.isfile(path))
        if not self.paths:
            raise SourceError(
                f'source "{self.name}" matches no file (looked in {Path.cwd()}); correct the '
                "pattern, or give an absolute one"
            )

    def signature(self) -> str:
        return key_of([_stat(path) for path in self.paths])

    def documents(self) -> Iterator[Document]:
        for path in self.paths:
            try:
                yield Document(str(path), path.read_bytes())
            except OSError as error:
                raise SourceError(f'source "{self.name}": cannot read {path}: {error}') from error


def _stat(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


# ---- tfds:<name>


def tfds_dirs(root: Path) -> list[Path]:
    """Where prepared TFDS datasets are looked for, first to last."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return [Path(default).expanduser(), root / "tfds"]


class Tfds:
    """A prepared TFDS dataset, `name[/config][:version]`; its parts are its TFDS splits.

    Read from files, without the code that made them and without TensorFlow.
    """

    def __init__(self, dataset: str, part: str | None, root: Path):
        self.name = f"tfds:{dataset}"
        self.folder = _find_dataset(dataset, tfds_dirs(root))
        self.wanted = part

    @property
    def part(self) -> str:
        # The name in the config: which splits exist is known only once the dataset is opened.
        return self.wanted or "train"

    def signature(self) -> str:
        return key_of([_stat(path) for path in sorted(self.folder.iterdir())])

    def documents(self) -> Iterator[Document]:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.folder)
        splits = tuple(builder.info.splits)
        _choose(self.part, splits, self.part, self.name)
        file_format = builder.info.file_format.value
        if file_format not in ("array_record", "parquet"):
            raise SourceError(
                f'source "{self.name}" is prepared as {file_format}, which only TensorFlow reads; '
                f"{_prepare(builder.name)}"
            )
        yield from read_split(builder, self.part, self.name)


def read_split(builder: Any, split: str, name: str) -> Iterator[Document]:
    """The text feature of every example of a TFDS split, through its data source."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if "text" not in texts and len(texts) != 1:
        raise SourceError(
            f'source "{name}" has no feature "text" and not exactly one of type Text (it has '
            f"{', '.join(sorted(features))}), so what to train on is unclear; choose another "
            "dataset"
        )
    key = "text" if "text" in texts else texts[0]
    title = "name" if "name" in texts else None
    rows = builder.as_data_source(split=split)
    many = 1024  # rows a read: far faster than one by one
    for start in range(0, len(rows), many):
        indices = list(range(start, min(start + many, len(rows))))
        for index, row in zip(indices, rows.__getitems__(indices), strict=True):
            label = row[title].decode() if title else f"{split}[{index}]"
            text = row[key]
            yield Document(label, text.encode() if isinstance(text, str) else text)


def _prepare(dataset: str) -> str:
    return (
        "prepare it once with: python -c \"import tensorflow_datasets as tfds; tfds.builder('"
        f"{dataset}', file_format='array_record').download_and_prepare()\""
    )


def _find_dataset(dataset: str, folders: list[Path]) -> Path:
    """The newest version of a dataset in the first of the folders that has it."""
    named, _, version = dataset.partition(":")
    for folder in folders:
        home = folder / named
        versions = _versions(home)
        configs = [c for c in home.iterdir() if _versions(c)] if home.is_dir() else []
        if not versions and len(configs) > 1:
            raise SourceError(
                f'source "tfds:{dataset}" has several configs '
                f"({', '.join(sorted(c.name for c in configs))}); write tfds:{named}/<config>"
            )
        if not versions and configs:
            versions = _versions(configs[0])
        if version:
            versions = [v for v in versions if v.name == version]
        if versions:
            return versions[-1]
    raise SourceError(
        f'source "tfds:{dataset}" is not prepared in {" or ".join(map(str, folders))} (nothing is '
        f"downloaded by itself); {_prepare(named)}, or set TFDS_DATA_DIR to where it is"
    )


def _versions(home: Path) -> list[Path]:
    if not home.is_dir():
        return []
    found = [path.parent for path in home.glob("[0-9]*.[0-9]*.[0-9]*/dataset_info.json")]
    return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")])


# ---- stdlib


class Stdlib:
    """The running Python's standard library, through a TFDS builder of our own.

    Parts: "code", its Python sources without tests; "docs", the English of its language reference.
    """

    def __init__(self, argument: str, part: str | None, root: Path):
        if argument:
            raise SourceError(f'source "stdlib:{argument}": stdlib takes no argument; write stdlib')
        self.part = _choose(part, ("code", "docs"), "code", "stdlib")
        self.files = StdlibFiles.of_this_python()
        self.root = root

    def signature(self) -> str:
        return self.files.signature

    def documents(self) -> Iterator[Document]:
        from scaling.data.stdlib_builder import prepared_builder

        # One folder for each standard library: a home directory may be shared by several Pythons.
        home = self.root / "tfds" / f"python-{self.signature()}"

        def build(folder: Path) -> None:
            prepared_builder(folder, self.files)

        build_once(home, build)
        yield from read_split(prepared_builder(home, self.files), self.part, "stdlib")


SOURCES: dict[str, Callable[[str, str | None, Path], Source]] = {
    "stdlib": Stdlib,
    "text": Text,
    "tfds": Tfds,
}
