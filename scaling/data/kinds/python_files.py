"""Python sources: the standard library's, or a person's own. Called by the kinds of data that read
what Python itself says of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.data.kinds.text.reading import matching
from scaling.data.kinds.text.source import stat
from scaling.data.kinds.text.stdlib import StdlibFiles
from scaling.data.store import key_of


@dataclass(frozen=True)
class PythonFiles:
    """Some files."""

    paths: tuple[Path, ...]
    signature: str  # changes when they may have changed

    def texts(self) -> Iterator[bytes]:
        """Each of them, with line ends of one kind and no byte-order mark."""
        for path in self.paths:
            text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
            yield text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def python_files(pattern: str, source: str) -> PythonFiles:
    """Those of a glob; of an empty one the standard library's. Raises SourceError."""
    if not pattern:
        files = StdlibFiles.of_this_python()
        return PythonFiles(tuple(files.home / name for name in files.names), files.signature)
    paths = tuple(matching(pattern, source, (".py",)))
    version = StdlibFiles.version_of_this_python()
    return PythonFiles(paths, key_of([version, *(stat(path) for path in paths)]))
