"""A line on stderr at least every so many seconds, from a thread of its own.

Who tells a person how the work goes (`train/progress.py`, `executors/progress.py`, the commands)
makes a `Heartbeat` of a function that gives a line, and calls `said` for each line that it prints
itself: a compilation of minutes, a long step or a slow evaluation is then no silence.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

from scaling.errors import UserError

ENV = "SCALING_HEARTBEAT"
EVERY = 20.0  # seconds; a machine with too much to do is late


def every() -> float:
    """Seconds between lines: $SCALING_HEARTBEAT, or `EVERY`. Raises UserError for none."""
    text = os.environ.get(ENV) or str(EVERY)
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < threading.TIMEOUT_MAX:
            return seconds
    raise UserError(f"{ENV}={text} must be a number of seconds above 0")


def say(text: str) -> None:
    """A whole line, whoever else writes; a reader that is gone is no error."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Heartbeat:
    """Says what `line` gives whenever nothing was said for `every()` seconds; `close` it."""

    def __init__(self, line: Callable[[], str]):
        self._line, self._every = line, every()
        self._last, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    def said(self) -> None:
        """A line has just been printed."""
        self._last = time.monotonic()

    def _beat(self) -> None:
        while not self._over.wait(max(0.0, self._last + self._every - time.monotonic())):
            if time.monotonic() - self._last >= self._every:
                self.said()
                text = self._line()
                if not self._over.is_set():
                    say(text)

    def close(self) -> None:
        """No line comes after this."""
        self._over.set()
        self._thread.join()

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
