"""The distinct documents of a source, read once and kept on disk: one flat file, and who is where.

Takes a source's name and part; gives `Documents`, found again by the source's signature. Which of
them are held out, and whether whole, is `split.py`'s. Called by `split.py` and `inspection.py`.
"""

import functools
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.kinds.text.sources import open_source
from scaling.data.store import build_once, key_of
from scaling.errors import SourceError

DIGEST = 32  # bytes of a SHA-256
_NAMED = 5  # empty documents
_READ = "v3"  # of how the documents are read from their files: what was kept before is read anew


@dataclass(frozen=True, eq=False)
class Texts:
    """Distinct texts that lie in one file."""

    file: Path
    digests: np.ndarray  # SHA-256 of each: uint8 [texts, 32]
    bounds: np.ndarray  # first byte, and the one after the last: int64 [texts, 2]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Bytes of each: int64 [texts]."""
        return self.bounds[:, 1] - self.bounds[:, 0]

    @functools.cached_property
    def chances(self) -> np.ndarray:
        """What chooses the split of each, even between 0 and 2^64: uint64 [texts]."""
        return self.digests[:, :8].copy().view(">u8")[:, 0].astype(np.uint64)

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Indices in the order in which the texts are laid out: int64 [texts].

        It follows the bytes of the digest that do not choose the split, so the two are independent.
        """
        rest = self.digests[:, 8:]
        return np.array(sorted(range(len(rest)), key=lambda i: rest[i].tobytes()), np.int64)

    def read(self, indices: np.ndarray) -> Iterator[bytes]:
        """The texts of some indices, in their order."""
        everything = np.memmap(self.file, np.uint8, "r")
        for start, stop in self.bounds[indices]:
            yield everything[start:stop].tobytes()


@dataclass(frozen=True)
class Documents:
    """The distinct documents of a part of a source, as they lie on disk."""

    folder: Path
    part: str
    content: str  # hash of the set of documents

    @functools.cached_property
    def texts(self) -> Texts:
        """The documents."""
        ends = np.load(self.folder / "offsets.npy")
        bounds = np.stack([ends[:-1], ends[1:]], axis=1)
        digests = np.load(self.folder / "digests.npy", mmap_mode="r")
        return Texts(self.folder / "text.bin", digests, bounds)

    @property
    def names(self) -> list[str]:
        """Where each was found first: a file, or a line of one."""
        return json.loads((self.folder / "names.json").read_text())

    @property
    def facts(self) -> dict[str, Any]:
        """What was counted as they were read: `documents` (all), `bytes`, `copies`, `crlf` (those
        with line ends of that kind), `empty`, and of some the `empty_names`, `longest` ([name,
        bytes]), `seconds`.
        """
        return _facts(self.folder)


def documents(source: str, part: str | None, root: Path) -> Documents:
    """The distinct, non-empty documents of a source; read once, then found by its signature.

    Raises:
      SourceError: see `open_source`; or every document is empty.
    """
    opened = open_source(source, part, root)
    key = key_of([source, opened.part, opened.signature(), _READ])

    def build(folder: Path) -> None:
        begun = time.perf_counter()
        seen: dict[bytes, str] = {}
        offsets, longest = [0], ("", 0)
        counts = dict.fromkeys(("documents", "bytes", "copies", "crlf"), 0)
        empty = list[str]()
        with open(folder / "text.bin", "wb") as text:
            for document in opened.documents():
                size = len(document.text)
                digest = hashlib.sha256(document.text).digest()
                counts["documents"] += 1
                counts["bytes"] += size
                counts["crlf"] += b"\r\n" in document.text
                longest = max(longest, (document.name, size), key=lambda one: one[1])
                if not size:
                    empty.append(document.name)
                elif digest in seen:
                    counts["copies"] += 1
                else:
                    seen[digest] = document.name
                    offsets.append(offsets[-1] + text.write(document.text))
        if not seen:
            raise SourceError(
                f'source "{source}" (part "{opened.part}") has no text: every document is empty; '
                "point it to files with text"
            )
        digests = np.frombuffer(b"".join(seen), np.uint8).reshape(-1, DIGEST)
        np.save(folder / "digests.npy", digests)
        np.save(folder / "offsets.npy", np.array(offsets, np.int64))
        (folder / "names.json").write_text(json.dumps(list(seen.values()), indent=0))
        seconds = time.perf_counter() - begun
        facts = {
            **{"content": content_of(digests), **counts, "longest": longest, "seconds": seconds},
            **{"empty": len(empty), "empty_names": empty[:_NAMED]},
        }
        (folder / "facts.json").write_text(json.dumps(facts))

    folder = build_once(root / "documents" / key, build)
    return Documents(folder, opened.part, _facts(folder)["content"])


def content_of(digests: np.ndarray) -> str:
    """The hash of a set of texts, from their digests [texts, 32] in any order."""
    return hashlib.sha256(b"".join(sorted(digest.tobytes() for digest in digests))).hexdigest()


@functools.lru_cache(maxsize=256)
def _facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text())
