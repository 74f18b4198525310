"""TensorBoard events of a run, wherever its directory is.

TensorBoard's files are appended to, which an object store cannot do: there they are written on the
local disk and put in their place whole, now and then and at the end. Called by `recorder.py`.
"""

import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorboardX
from etils import epath

from scaling import files

_EVERY = 60.0  # seconds between copies to an object store


class Events:
    """A writer of scalars; `close` it."""

    def __init__(self, place: epath.Path, purge_step: int | None):
        """
        Args:
          place: the folder that TensorBoard is to read.
          purge_step: what earlier processes wrote from this step on is hidden.
        """
        self._place, self._local, self._copied = place, files.is_local(place), time.monotonic()
        self._folder = None if self._local else tempfile.TemporaryDirectory()
        folder = str(place) if self._folder is None else self._folder.name
        self._writer = tensorboardX.SummaryWriter(folder, purge_step=purge_step)

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Every number of lines as they stand in metrics.jsonl."""
        for line in lines:
            for name, value in line.items():
                shown = name != "step" and not name.startswith("hash/")
                if shown and isinstance(value, int | float):
                    self._writer.add_scalar(f"{line['split']}/{name}", value, line["step"])
        if time.monotonic() - self._copied > _EVERY:
            self._copy()

    def close(self) -> None:
        """The last of it."""
        self._writer.close()
        self._copy()
        if self._folder is not None:
            self._folder.cleanup()

    def _copy(self) -> None:
        self._copied = time.monotonic()
        if self._folder is not None:
            files.upload(pathlib.Path(self._folder.name), self._place)
