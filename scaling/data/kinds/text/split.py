"""What is held out for validation: whole documents by their hash, or, where these are too few or
too unequal, blocks of them.

Takes the documents of a source and a fraction; gives the texts of a corpus (documents or blocks)
and which of them are the validation and the train split. Called by `corpus.py`.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from scaling.data.kinds.text.documents import Documents, Texts, content_of
from scaling.data.store import build_once, key_of

# Part of every content hash: how a text is assigned to a split, and how texts are laid out.
_DOCUMENTS = "first 8 bytes of sha256 < fraction; ordered by the others; separator before each; v1"
_BLOCKS = "blocks; least of the first 8 bytes of sha256 up to the fraction of the bytes; v1"

# Whole documents do where either holds.
_NEAR = 3.0  # at most so many times more, or less, than a split should have
_MANY = 64  # documents, none of them more than half of the bytes
_LEAST = 256  # bytes that a split must have


class Pieces(Protocol):
    """What a corpus is made of, and how it is split."""

    @property
    def by(self) -> str:
        """What went to the splits, for people: "documents", "blocks of about 4,096 bytes"."""

    @property
    def rule(self) -> str:
        """Part of the content hash."""

    @property
    def content(self) -> str:
        """Hash of the set of texts."""

    @property
    def texts(self) -> Texts:
        """The distinct texts."""

    @property
    def copies(self) -> int:
        """Blocks that were there before, dropped."""

    @property
    def documents(self) -> np.ndarray:
        """SHA-256 of the document that each text is from: uint8 [texts, 32]."""

    def split(self, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the texts of validation and train, each in its fixed order.

        A larger fraction keeps every text that a smaller one held out.
        """


def pieces_of(docs: Documents, validation_fraction: float, root: Path, whole: bool) -> Pieces:
    """The documents, or blocks of them where whole ones cannot give a validation split that is near
    the fraction. `whole`: they stay whole in any case (an evaluation set of another source).
    """
    if whole or _documents_do(docs.texts, validation_fraction):
        return WholeDocuments(docs)
    return _blocks(docs, root)


def _documents_do(texts: Texts, fraction: float) -> bool:
    lengths = texts.lengths
    total, held_out = int(lengths.sum()), int(lengths[_chosen(texts, fraction)].sum())
    if min(held_out, total - held_out) < _LEAST:
        return False
    share = held_out / total
    near = fraction / _NEAR <= share <= fraction * _NEAR and 1 - share >= (1 - fraction) / _NEAR
    return near or (len(lengths) >= _MANY and int(lengths.max()) <= total / 2)


def _chosen(texts: Texts, fraction: float) -> np.ndarray:
    return texts.chances < np.uint64(int(fraction * 2**64))


@dataclass(frozen=True)
class WholeDocuments:
    """Each document goes to validation or train by its own hash: neither the order of the files nor
    what else is in the corpus moves it.
    """

    of: Documents
    by = "documents"
    rule = _DOCUMENTS
    copies = 0

    @property
    def content(self) -> str:
        """Hash of the set of documents."""
        return self.of.content

    @property
    def texts(self) -> Texts:
        """The documents."""
        return self.of.texts

    @property
    def documents(self) -> np.ndarray:
        """Each is its own."""
        return self.of.texts.digests

    def split(self, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """See `Pieces`."""
        order = self.texts.order
        held_out = _chosen(self.texts, validation_fraction)[order]
        return order[held_out], order[~held_out]


# ---- blocks


@dataclass(frozen=True)
class Blocks:
    """Documents cut into contiguous blocks, each once; those of the least hashes are held out, as
    many as the fraction of the bytes asks for, so that a split of few texts has its share.
    """

    folder: Path
    of: Documents
    rule = _BLOCKS

    @functools.cached_property
    def _facts(self) -> dict:
        return json.loads((self.folder / "facts.json").read_text())

    @property
    def by(self) -> str:
        """With their size."""
        return f"blocks of about {self._facts['size']:,} bytes"

    @property
    def content(self) -> str:
        """Hash of the set of blocks."""
        return self._facts["content"]

    @property
    def copies(self) -> int:
        """See `Pieces`."""
        return self._facts["copies"]

    @functools.cached_property
    def texts(self) -> Texts:
        """The blocks; they lie in the documents' file."""
        digests, bounds = (np.load(self.folder / f"{name}.npy") for name in ("digests", "bounds"))
        return Texts(self.of.texts.file, digests, bounds)

    @functools.cached_property
    def documents(self) -> np.ndarray:
        """See `Pieces`."""
        return self.of.texts.digests[np.load(self.folder / "parents.npy")]

    def split(self, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """See `Pieces`. The least text that validation gets is 256 bytes, or a quarter of it all;
        train keeps a block.
        """
        texts = self.texts
        by_chance = texts.order[np.argsort(texts.chances[texts.order], kind="stable")]
        upto, total = np.cumsum(texts.lengths[by_chance]), int(texts.lengths.sum())
        wanted = max(validation_fraction * total, min(_LEAST, total / 4))
        count = min(int(np.searchsorted(upto, wanted)) + 1, len(by_chance) - 1)
        held_out = np.zeros(len(by_chance), bool)
        held_out[by_chance[:count]] = True
        held_out = held_out[texts.order]
        return texts.order[held_out], texts.order[~held_out]


def _blocks(docs: Documents, root: Path) -> Blocks:
    """The distinct blocks of some documents; cut once, then found."""

    def build(folder: Path) -> None:
        texts, seen = docs.texts, dict[bytes, tuple[int, int, int]]()
        size, copies = block_size(int(texts.lengths.sum())), 0
        every = zip(texts.read(np.arange(len(texts.bounds))), texts.bounds[:, 0], strict=True)
        for parent, (text, first) in enumerate(every):
            start = 0
            for end in cuts(text, size):
                digest = hashlib.sha256(text[start:end]).digest()
                copies += digest in seen
                seen.setdefault(digest, (int(first) + start, int(first) + end, parent))
                start = end
        digests = np.frombuffer(b"".join(seen), np.uint8).reshape(-1, texts.digests.shape[1])
        places = np.array(list(seen.values()), np.int64)
        np.save(folder / "digests.npy", digests)
        np.save(folder / "bounds.npy", places[:, :2])
        np.save(folder / "parents.npy", places[:, 2])
        facts = {"content": content_of(digests), "size": size, "copies": copies}
        (folder / "facts.json").write_text(json.dumps(facts))

    key = key_of([docs.folder.name, _BLOCKS, "v2"])
    return Blocks(build_once(root / "blocks" / key, build), docs)


def block_size(total: int) -> int:
    """Bytes of a block in a corpus of `total` bytes: a power of two, so that a corpus that grows
    keeps its blocks until it has doubled; at least 256 bytes (an eighth of all, if that is less),
    at most 64 KiB, between them about 128 blocks in all.
    """
    wanted = min(2**16, max(total // 128, min(256, total // 8)))
    return 1 << max(0, wanted.bit_length() - 1)


def cuts(text: bytes, size: int) -> list[int]:
    """Where the blocks of a text end: after the first line end that gives them `size` bytes, or, in
    lines longer than that, after a space, or between two characters.
    """
    ends, start = list[int](), 0
    while len(text) - start > 2 * size:
        least, most = start + size, start + 2 * size
        line_end, space = (text.find(mark, least - 1, most) + 1 for mark in (b"\n", b" "))
        end = line_end or space
        if not end:
            end = least
            while end < min(least + 3, len(text)) and 0x80 <= text[end] < 0xC0:  # within a letter
                end += 1
        if len(text) - end < max(1, size // 2):
            break
        ends.append(end)
        start = end
    return [*ends, len(text)]
