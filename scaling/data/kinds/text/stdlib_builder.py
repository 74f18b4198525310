"""A TFDS builder over the running Python's standard library.

Writes and reads array_record files without TensorFlow and without the network. Splits: `code`, the
library's Python sources; `docs`, the texts behind Python's own `help("TOPIC")`, one topic a
document. Called by `sources.py`, which imports this file only when there is something to prepare or
read.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from scaling.data.kinds.text.stdlib import StdlibFiles


class PythonStdlib(tfds.core.GeneratorBasedBuilder):
    """The Python standard library as text: its sources, and its language reference."""

    VERSION = tfds.core.Version(StdlibFiles.version_of_this_python())
    RELEASE_NOTES = {str(VERSION): "The standard library of the Python of this version."}  # noqa: RUF012

    def __init__(self, files: StdlibFiles, **kwargs: Any):
        self.files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"name": text(), "text": text()}),
            homepage="https://docs.python.org/3/library/",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager
        return {"code": self._generate_examples("code"), "docs": self._generate_examples("docs")}

    def _generate_examples(self, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if part == "code":
            for name in self.files.names:
                yield name, {"name": name, "text": (self.files.home / name).read_bytes()}
        else:
            topics = importlib.import_module("pydoc_data.topics").topics
            for name, text in sorted(topics.items()):
                yield name, {"name": f"topics/{name}", "text": text.encode()}


def prepared_builder(folder: Path, files: StdlibFiles) -> PythonStdlib:
    """The builder with its files in `folder`, written now unless they are there."""
    builder = PythonStdlib(files, data_dir=folder, file_format="array_record")
    tfds.disable_progress_bar()  # it takes a few seconds, and would write over our own progress
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    return builder
