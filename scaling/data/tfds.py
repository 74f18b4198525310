"""`tfds:<name>`: a prepared TFDS data set, read from its files without TensorFlow.

Called by `sources.py`; `read_split` also by `stdlib.py`, whose corpus is kept as such a data set.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data.source import Document, choose, stat
from scaling.data.store import key_of
from scaling.errors import SourceError


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
        return key_of([stat(path) for path in sorted(self.folder.iterdir())])

    def documents(self) -> Iterator[Document]:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.folder)
        splits = tuple(builder.info.splits)
        choose(self.part, splits, self.part, self.name)
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
