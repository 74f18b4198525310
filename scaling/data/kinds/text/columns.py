"""`parquet:<files>[#column]`, and `hf:<folder>[#column]`, a data set that the `datasets` library
saved to disk: each row of a column a document.

Read by pyarrow, a batch of rows at a time. Called by `sources.py`.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data.kinds.text.reading import matching, opened_anywhere
from scaling.data.kinds.text.source import Document, choose, stat
from scaling.data.kinds.text.text_files import pattern_and_field
from scaling.data.store import key_of
from scaling.errors import SourceError, nearest

_ROWS = 1024  # read at a time


class Parquet:
    """Parquet files, the rows of one column of which are the documents."""

    part = "all"

    def __init__(self, argument: str, part: str | None, root: Path):
        del root
        self.name = f"parquet:{argument}"
        choose(part, ("all",), "all", self.name)
        pattern, self.column = pattern_and_field(argument)
        self.paths = matching(pattern, self.name, (".parquet", ".pq"))

    def signature(self) -> str:
        return key_of([stat(path) for path in self.paths])

    def documents(self) -> Iterator[Document]:
        import pyarrow.parquet as pq

        for path in self.paths:
            with _arrow_errors(path, self.name), opened_anywhere(path, self.name) as stream:
                file = pq.ParquetFile(stream)
                _check_column(file.schema_arrow, self.column, path, self.name)
                batches = file.iter_batches(_ROWS, columns=[self.column])
                yield from _rows(batches, self.column, path, self.name)


class Saved:
    """A folder of `datasets.Dataset.save_to_disk`, or of a `DatasetDict`, whose parts are its
    splits.
    """

    def __init__(self, argument: str, part: str | None, root: Path):
        del root
        self.name = f"hf:{argument}"
        folder, self.column = pattern_and_field(argument)
        self.folder = Path(folder).expanduser().absolute()
        if not self.folder.is_dir():
            raise SourceError(
                f'source "{self.name}": there is no folder {self.folder} (nothing is downloaded); '
                "save the data set there by save_to_disk of the datasets library"
            )
        if (self.folder / "dataset_dict.json").is_file():
            splits = tuple(self._read(self.folder / "dataset_dict.json", "splits"))
            default = splits[0] if len(splits) == 1 else "train"
            self.part = choose(part, splits, default, self.name)
            choose(self.part, splits, default, self.name)
            self.folder /= self.part
        else:
            self.part = choose(part, ("all",), "all", self.name)
        self.paths = self._files()

    def _files(self) -> list[Path]:
        state_file = self.folder / "state.json"
        if not state_file.is_file():
            raise SourceError(
                f'source "{self.name}": {self.folder} has neither state.json nor '
                "dataset_dict.json; save the data set there by save_to_disk of the datasets library"
            )
        if any(self._read(state_file, f"_indices_{of}files", ()) for of in ("", "data_")):
            raise SourceError(
                f'source "{self.name}": {state_file} selects rows by a list of indices; call '
                "flatten_indices() on the data set, and save it again"
            )
        paths = [self.folder / name for name in self._read(state_file, "_data_files")]
        for path in paths:
            if not path.is_file():
                raise SourceError(f'source "{self.name}": {path}, named in state.json, is missing')
        return paths

    def _read(self, path: Path, key: str, default: Any = None) -> list[str]:
        """The names that a JSON file of the library's lists: of splits, or of files."""
        try:
            value = json.loads(path.read_bytes())
            listed = value[key] if default is None else value.get(key) or default
            return [str(one if isinstance(one, str) else one["filename"]) for one in listed]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f'source "{self.name}": {path} is damaged ({type(error).__name__}: {error}); save '
                "the data set again"
            ) from error

    def signature(self) -> str:
        return key_of([stat(path) for path in self.paths])

    def documents(self) -> Iterator[Document]:
        import pyarrow as pa

        for path in self.paths:
            with _arrow_errors(path, self.name), pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_stream(file)
                _check_column(reader.schema, self.column, path, self.name)
                batches = (batch.select([self.column]) for batch in reader)
                yield from _rows(batches, self.column, path, self.name)


@contextlib.contextmanager
def _arrow_errors(path: Path, source: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        why = str(error).split("\n")[0]
        raise SourceError(f'source "{source}": cannot read {path}: {why}') from error


def _check_column(schema: Any, column: str, path: Path, source: str) -> None:
    if column not in schema.names:
        raise SourceError(
            f'source "{source}": {path} has no column "{column}"{nearest(column, schema.names)}; '
            f"name the one that is text: {source.partition('#')[0]}#<column>"
        )
    kind = schema.field(column).type
    if not _is_text(kind):
        texts = [name for name in schema.names if _is_text(schema.field(name).type)]
        raise SourceError(
            f'source "{source}": {path}: column "{column}" is of type {kind}, not text; its '
            f"columns of text: {', '.join(texts) or 'none'}"
        )


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        *(types.is_string, types.is_large_string, types.is_string_view),
        *(types.is_binary, types.is_large_binary, types.is_binary_view, types.is_null),
    )
    return any(test(kind) for test in tests)


def _rows(batches: Any, column: str, path: Path, source: str) -> Iterator[Document]:
    """A document a row of batches of one column; rows count from 1."""
    import pyarrow as pa

    number = 0
    for batch in batches:
        values = batch.column(0)
        values.validate(full=True)  # what a damaged file says of its places is not in memory
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        for text in values.cast(pa.large_binary()).to_pylist():
            number += 1
            if text is None:
                raise SourceError(
                    f'source "{source}": {path}, row {number}: column "{column}" is null, not text'
                )
            yield Document(f"{path}:{number}", text)
