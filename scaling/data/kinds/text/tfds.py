"""`tfds:<name>`: the text of a prepared TFDS data set, read from its files without TensorFlow.

Called by `sources.py`; `read_split` also by `stdlib.py`, whose corpus is kept as such a data set.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data.kinds.text.source import Document, choose, stat
from scaling.data.store import key_of
from scaling.data.tfds import find_dataset, how_to_prepare, tfds_dirs
from scaling.errors import SourceError


class Tfds:
    """A prepared TFDS dataset, `name[/config][:version]`; its parts are its TFDS splits.

    Read from files, without the code that made them and without TensorFlow.
    """

    def __init__(self, dataset: str, part: str | None, root: Path):
        self.name = f"tfds:{dataset}"
        self.folder = find_dataset(dataset, tfds_dirs(root))
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
                f"{how_to_prepare(builder.name)}"
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
