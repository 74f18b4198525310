"""`stdlib`: the running Python's standard library, and which of its files are the corpus.

`stdlib_builder.py` turns them into TFDS examples; kept apart from it so that a prepared corpus is
recognised without importing TFDS. Called by `sources.py`.
"""

import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.data.kinds.text.source import Document, choose
from scaling.data.kinds.text.tfds import read_split
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError

# Tests repeat the code they test; installed packages are not the library; `pydoc_data` is the part
# "docs". `_sysconfigdata*` and `config-*` are written when Python is built and differ by machine.
_LEFT_OUT = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "pydoc_data",
}
_BUILT = ("_sysconfigdata", "config-")


@dataclass(frozen=True)
class StdlibFiles:
    """The sources of one standard library."""

    home: Path
    names: tuple[str, ...]  # relative to home, with "/", sorted
    version: str  # of Python, as 3.11.7
    signature: str

    @staticmethod
    @functools.cache
    def of_this_python() -> "StdlibFiles":
        """The files of the interpreter that runs.

        Raises:
          SourceError: this Python comes without its sources.
        """
        home = Path(sysconfig.get_paths()["stdlib"])
        names, facts = [], []
        for folder, folders, files in os.walk(home):
            folders[:] = [d for d in folders if d not in _LEFT_OUT and not d.startswith(_BUILT)]
            for file in files:
                if file.endswith(".py") and not file.startswith(_BUILT):
                    path = Path(folder, file)
                    names.append(path.relative_to(home).as_posix())
                    facts.append([names[-1], path.stat().st_size, path.stat().st_mtime_ns])
        if not names:
            raise SourceError(
                f'source "stdlib": no Python sources in {home}; use a Python that has them, or '
                "text:<glob>"
            )
        version = StdlibFiles.version_of_this_python()
        return StdlibFiles(home, tuple(sorted(names)), version, key_of([version, sorted(facts)]))

    @staticmethod
    def version_of_this_python() -> str:
        """As 3.11.7, also for a release candidate: TFDS wants three numbers."""
        return ".".join(map(str, sys.version_info[:3]))


class Stdlib:
    """The running Python's standard library, through a TFDS builder of our own.

    Parts: "code", its Python sources without tests; "docs", the English of its language reference.
    """

    def __init__(self, argument: str, part: str | None, root: Path):
        if argument:
            raise SourceError(f'source "stdlib:{argument}": stdlib takes no argument; write stdlib')
        self.part = choose(part, ("code", "docs"), "code", "stdlib")
        self.files = StdlibFiles.of_this_python()
        self.root = root

    def signature(self) -> str:
        return self.files.signature

    def documents(self) -> Iterator[Document]:
        from scaling.data.kinds.text.stdlib_builder import prepared_builder

        # One folder for each standard library: a home directory may be shared by several Pythons.
        home = self.root / "tfds" / f"python-{self.signature()}"

        def build(folder: Path) -> None:
            prepared_builder(folder, self.files)

        build_once(home, build)
        yield from read_split(prepared_builder(home, self.files), self.part, "stdlib")
