"""Where prepared data lie, and how something is prepared exactly once.

Everything is kept below one directory, in folders named by a hash of what is in them. A folder is
built beside its final place under a lock and renamed into it, so it is either whole or absent: two
processes may prepare the same corpus at once, and one may be killed while it does. Called by the
rest of `scaling/data`.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling import files
from scaling.errors import DataError


def key_of(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Makes the folder `path` by `build(folder)` unless it is there; gives `path`.

    Raises:
      DataError: the directory cannot be written, or the disk is full.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(f".{path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                # What a killed process left behind; nobody else builds it while we hold the lock.
                unfinished = path.with_name(f".{path.name}.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                build(unfinished)
                unfinished.rename(path)
    except OSError as error:
        raise DataError(
            f"cannot prepare data in {path}: {error}. Point {files.DATA_DIR} to a directory that "
            "can be written and has room"
        ) from error
    return path
