"""TensorBoard events of a run, wherever its directory is.

TensorBoard's files are appended to, which an object store cannot do: there they are written on the
local disk and put in their place whole, now and then and at the end. They are written in the thread
of the caller: the writer with a thread of its own, once that has died of a full disk, waits for it
for ever. Called by `recorder.py`.
"""

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from scaling import files

_EVERY = 60.0  # seconds between flushes, and copies to an object store


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
        if self._local:
            files.make_directory(place)
        folder = str(place) if self._folder is None else self._folder.name
        self._writer = EventsWriter(f"{folder}/events", f".{time.time_ns()}")
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=purge_step, file_version="brain.Event:2"))
            self._writer.write_event(Event(step=purge_step, session_log=start))

    def add(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Every number of lines as they stand in metrics.jsonl."""
        now = time.time()
        for line in lines:
            for name, value in line.items():
                shown = name != "step" and not name.startswith("hash/")
                if shown and isinstance(value, int | float):
                    summary = scalar(f"{line['split']}/{name}", value)
                    event = Event(wall_time=now, step=line["step"], summary=summary)
                    self._writer.write_event(event)
        if time.monotonic() - self._copied > _EVERY:
            self._copy()

    def close(self) -> None:
        """The last of it; the file is closed also where that cannot be written."""
        try:
            self._copy()
        finally:
            with contextlib.suppress(OSError):  # `EventsWriter.close` would stop at the flush
                self._writer._py_recordio_writer.close()
            if self._folder is not None:
                self._folder.cleanup()

    def _copy(self) -> None:
        self._copied = time.monotonic()
        self._writer.flush()
        if self._folder is not None:
            files.upload(pathlib.Path(self._folder.name), self._place)
