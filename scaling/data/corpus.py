"""From a source to a prepared corpus: documents once, split by content, tokens in one flat file.

Documents are de-duplicated exactly, then each goes to validation or train by its own hash, so
neither the order of the files nor what else is in the corpus moves it. All three steps are cached
on disk: `documents/` by the source's signature, `tokenizers/`, and `corpora/` by content hash.
Called by `scaling/data/__init__.py` and `runs.py`.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from scaling.config import DataConfig
from scaling.data.sources import open_source
from scaling.data.store import build_once, data_dir, key_of
from scaling.data.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer, train_bpe
from scaling.errors import ConfigError, DataError

_DIGEST = 32  # bytes of a SHA-256
# Part of every content hash: how a document is assigned to a split, and how documents are laid out.
_RULE = "first 8 bytes of sha256 < fraction; ordered by the others; separator before each; v1"


# ---- documents


@dataclass(frozen=True)
class Documents:
    """The distinct documents of a part of a source, as they lie on disk."""

    folder: Path
    part: str
    content: str  # hash of the set of documents

    @functools.cached_property
    def digests(self) -> np.ndarray:
        """SHA-256 of each document: uint8 [documents, 32]."""
        return np.load(self.folder / "digests.npy")

    @functools.cached_property
    def _offsets(self) -> np.ndarray:
        return np.load(self.folder / "offsets.npy")

    @functools.cached_property
    def _text(self) -> np.ndarray:
        return np.memmap(self.folder / "text.bin", np.uint8, "r")

    def split(self, validation_fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the validation and of the train documents, each in its fixed order.

        The first 8 bytes of the digest choose the split and the others the order, so the two are
        independent, and a larger fraction keeps every document that a smaller one held out.
        """
        order = np.array(sorted(range(len(self.digests)), key=self._rank), np.int64)
        chooses = self.digests[:, :8].copy().view(">u8")[:, 0]
        held_out = (chooses < np.uint64(int(validation_fraction * 2**64)))[order]
        return order[held_out], order[~held_out]

    def _rank(self, index: int) -> bytes:
        return self.digests[index, 8:].tobytes()

    def texts(self, indices: np.ndarray) -> Iterator[bytes]:
        """The documents of some indices, in their order."""
        for i in indices:
            yield self._text[self._offsets[i] : self._offsets[i + 1]].tobytes()


def documents(source: str, part: str | None, root: Path) -> Documents:
    """The distinct, non-empty documents of a source; read once, then found by its signature.

    Raises:
      DataError: see `open_source`; or every document is empty.
    """
    opened = open_source(source, part, root)
    key = key_of([source, opened.part, opened.signature()])

    def build(folder: Path) -> None:
        seen: dict[bytes, str] = {}
        offsets = [0]
        with open(folder / "text.bin", "wb") as text:
            for document in opened.documents():
                digest = hashlib.sha256(document.text).digest()
                if document.text and digest not in seen:
                    seen[digest] = document.name
                    offsets.append(offsets[-1] + text.write(document.text))
        if not seen:
            raise DataError(
                f'source "{source}" (part "{opened.part}") has no text: every document is empty; '
                "point it to files with text"
            )
        digests = np.frombuffer(b"".join(seen), np.uint8).reshape(-1, _DIGEST)
        np.save(folder / "digests.npy", digests)
        np.save(folder / "offsets.npy", np.array(offsets, np.int64))
        (folder / "names.json").write_text(json.dumps(list(seen.values()), indent=0))
        content = hashlib.sha256(b"".join(sorted(seen))).hexdigest()
        (folder / "facts.json").write_text(json.dumps({"content": content}))

    folder = build_once(root / "documents" / key, build)
    return Documents(folder, opened.part, _facts(folder)["content"])


@functools.lru_cache(maxsize=256)
def _facts(folder: Path) -> dict:
    return json.loads((folder / "facts.json").read_text())


# ---- tokenizer


def tokenizer(data: DataConfig, root: Path | None = None) -> Tokenizer:
    """The tokenizer of a training corpus; a BPE vocabulary is trained on its train split, once.

    Raises:
      ConfigError: a BPE vocabulary too small for the 256 bytes and the separator.
      DataError: see `documents`; or the train split is empty.
    """
    root = root or data_dir()
    if data.tokenizer == "bytes":
        return ByteTokenizer()
    if data.bpe_vocab < 257:
        raise ConfigError(
            f"data.bpe_vocab={data.bpe_vocab} must be at least 257: 256 bytes and the separator"
        )
    docs = documents(data.source, data.part, root)
    key = key_of([docs.content, data.validation_fraction, data.bpe_vocab, _RULE])

    def build(folder: Path) -> None:
        _, train = docs.split(data.validation_fraction)
        if not len(train):
            raise DataError(
                f'source "{data.source}": no document is in the train split, so no vocabulary can '
                "be trained; give more documents or a smaller data.validation_fraction"
            )
        train_bpe(docs.texts(train), data.bpe_vocab, folder)

    return BpeTokenizer(build_once(root / "tokenizers" / key, build))


# ---- tokens


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: one stream of tokens, the validation split first, then the train split."""

    folder: Path
    content_hash: str  # what it is: documents, part, split, tokenizer
    vocab: int
    separator: int
    dtype: str  # of a token in the file
    validation_documents: int
    train_documents: int
    validation_tokens: int  # separators included
    train_tokens: int

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text that each token stands for: int32 [vocab]."""
        return np.load(self.folder / "token_bytes.npy")

    def digests(self, split: str) -> set[bytes]:
        """SHA-256 of each document of a split ("train", "validation" or "all")."""
        raw = np.load(self.folder / "digests.npy")
        ours = raw[slice(*self._bounds(split, self.validation_documents, self.train_documents))]
        return {digest.tobytes() for digest in ours}

    def tokens(self, split: str) -> np.ndarray:
        """The token stream of a split, mapped from its file."""
        everything = _mapped(self.folder / "tokens.bin", self.dtype)
        return everything[slice(*self._bounds(split, self.validation_tokens, self.train_tokens))]

    @staticmethod
    def _bounds(split: str, validation: int, train: int) -> tuple[int, int]:
        both = validation + train
        return {"validation": (0, validation), "train": (validation, both), "all": (0, both)}[split]


@functools.lru_cache(maxsize=64)
def _mapped(path: Path, dtype: str) -> np.ndarray:
    return np.memmap(path, dtype, "r").view(np.ndarray)


def prepare(data: DataConfig, train: DataConfig, root: Path) -> Corpus:
    """The corpus of `data`, tokenized for a run that trains on `train`; prepared unless it is.

    Raises:
      DataError: see `documents` and `tokenizer`.
    """
    docs = documents(data.source, data.part, root)
    tokens = tokenizer(train, root)
    split = [data.validation_fraction, _RULE]
    content_hash = key_of([docs.content, docs.part, split, tokens.identity, tokens.separator])

    def build(folder: Path) -> None:
        _write_tokens(docs, data.validation_fraction, tokens, content_hash, folder)

    return opened(build_once(root / "corpora" / content_hash, build))


@functools.lru_cache(maxsize=256)
def opened(folder: Path) -> Corpus:
    """The prepared corpus in a folder."""
    return Corpus(folder, **json.loads((folder / "facts.json").read_text()))


def _write_tokens(
    docs: Documents, fraction: float, tokens: Tokenizer, content_hash: str, folder: Path
) -> None:
    splits = docs.split(fraction)
    dtype = np.dtype("<u2" if tokens.vocab <= 2**16 else "<u4")
    separator = np.array([tokens.separator], dtype).tobytes()
    counts = []
    with open(folder / "tokens.bin", "wb") as file:
        for indices in splits:
            start = file.tell()
            for at in range(0, len(indices), 256):  # documents at a time: BPE uses every core
                texts = list(docs.texts(indices[at : at + 256]))
                for encoded in tokens.encode_many(texts):
                    file.write(separator)
                    file.write(encoded.astype(dtype).tobytes())
            counts.append((file.tell() - start) // dtype.itemsize)
    np.save(folder / "digests.npy", docs.digests[np.concatenate(splits)])
    np.save(folder / "token_bytes.npy", tokens.token_bytes)
    corpus = Corpus(
        folder=folder,
        content_hash=content_hash,
        vocab=tokens.vocab,
        separator=tokens.separator,
        dtype=dtype.str,
        validation_documents=len(splits[0]),
        train_documents=len(splits[1]),
        validation_tokens=counts[0],
        train_tokens=counts[1],
    )
    facts = {name: value for name, value in asdict(corpus).items() if name != "folder"}
    (folder / "facts.json").write_text(json.dumps(facts))
