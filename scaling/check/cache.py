"""What the compiler said of a program, kept on disk: compiling for a pod takes minutes.

One JSON file a program, named by `Lowered.key`, which covers the program's text, the target and the
compiler's version. The persistent compilation cache of jax does not serve compilers without a
device. Called by `report.py`.
"""

import contextlib
import json
from pathlib import Path

from scaling import files
from scaling.check.compiled import Compiled, from_json, to_json
from scaling.errors import UserError


class Cache:
    """A folder of results."""

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, key: str) -> Compiled | None:
        """The stored result, or None; one that cannot be read is as good as none."""
        try:
            return from_json(json.loads((self._folder / f"{key}.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, compiled: Compiled) -> None:
        """Store a result. A place that cannot be written is no reason to lose it: passed over."""
        with contextlib.suppress(UserError):
            files.make_directory(self._folder)
            values = json.dumps(to_json(compiled)).encode()
            files.write_atomic(self._folder / f"{key}.json", values)
