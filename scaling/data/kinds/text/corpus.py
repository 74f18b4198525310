"""From a source to a prepared corpus: texts once, split by content, tokens in one flat file.

The documents (`documents.py`) or blocks of them (`split.py`) are tokenized split by split. Every
stage is cached on disk: `documents/` by the source's signature, `blocks/`, `tokenizers/`, and
`corpora/` by content hash. Called by `scaling/data/__init__.py`, `runs.py` and `inspection.py`.
"""

import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from scaling import files
from scaling.config.resolve import source_named
from scaling.data.kinds.text import exchanged
from scaling.data.kinds.text.documents import documents
from scaling.data.kinds.text.fields import TextConfig
from scaling.data.kinds.text.split import Pieces, pieces_of
from scaling.data.kinds.text.tokenizers import BpeTokenizer, Tokenizer, chosen, train_bpe
from scaling.data.store import build_once, key_of
from scaling.errors import ConfigError, DataError


def pieces(data: TextConfig, train: TextConfig, root: Path) -> Pieces:
    """The texts of the corpus of `data`, in a run that trains on `train`.

    Only what is trained on may be cut into blocks: an evaluation set of another source keeps its
    documents, so that one which is in both is found. A corpus that `data.corpus` pins, and that is
    prepared, is split as it was.
    """
    pinned = root / "corpora" / (data.corpus or "")
    whole = (data.source, data.part) != (train.source, train.part) or (
        (pinned / "facts.json").is_file() and opened(pinned).split_by == "documents"
    )
    docs = documents(data.source, data.part, root)
    return pieces_of(docs, data.validation_fraction, root, whole)


# ---- tokenizer


def tokenizer(data: TextConfig, root: Path | None = None) -> Tokenizer:
    """The tokenizer of a training corpus; a BPE vocabulary is trained on its train split, once.

    Raises:
      ConfigError: a BPE vocabulary too small for the 256 bytes and the separator.
      DataError: see `documents`; or the train split is empty; or there is no such imported one.
    """
    root = root or files.data_dir()
    if data.tokenizer != "bpe":
        return chosen(data, root)
    if data.bpe_vocab < 257:
        raise ConfigError(
            f"data.bpe_vocab={data.bpe_vocab} must be at least 257: 256 bytes and the separator"
        )
    with source_named("data"):
        of = pieces(data, data, root)
    key = key_of([of.content, data.validation_fraction, data.bpe_vocab, of.rule])

    def build(folder: Path) -> None:
        _, train = of.split(data.validation_fraction)
        if not len(train):
            raise DataError(
                f'data.source="{data.source}": no document is in the train split, so no vocabulary '
                "can be trained; give more documents or a smaller data.validation_fraction"
            )
        train_bpe(of.texts.read(train), data.bpe_vocab, folder)

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
    validation_documents: int  # or blocks
    train_documents: int
    validation_tokens: int  # separators included
    train_tokens: int
    split_by: str = "documents"  # what went to the splits: `Pieces.by`
    seconds: float = 0.0  # that tokenizing took

    @functools.cached_property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of text that each token stands for: int32 [vocab]; None: each place has its own."""
        path = self.folder / "token_bytes.npy"
        return np.load(path) if path.is_file() else None

    def digests(self, split: str) -> set[bytes]:
        """SHA-256 of each document (or block) of a split ("train", "validation" or "all")."""
        return self._digests("digests.npy", split)

    def documents(self, split: str) -> set[bytes]:
        """SHA-256 of each document that is in a split, or a block of it."""
        whole = self.split_by == "documents"
        return self._digests("digests.npy" if whole else "documents.npy", split)

    def _digests(self, name: str, split: str) -> set[bytes]:
        raw = np.load(self.folder / name)
        ours = raw[slice(*self._bounds(split, self.validation_documents, self.train_documents))]
        return {digest.tobytes() for digest in ours}

    def tokens(self, split: str) -> np.ndarray:
        """The token stream of a split, mapped from its file."""
        return self._stream("tokens.bin", self.dtype, split)

    def bytes(self, split: str) -> np.ndarray:
        """Those of each place of the token stream, where no token has its own: from its file."""
        return self._stream("bytes.bin", _BYTES, split)

    def _stream(self, name: str, dtype: str, split: str) -> np.ndarray:
        everything = _mapped(self.folder / name, dtype)
        return everything[slice(*self._bounds(split, self.validation_tokens, self.train_tokens))]

    @staticmethod
    def _bounds(split: str, validation: int, train: int) -> tuple[int, int]:
        both = validation + train
        return {"validation": (0, validation), "train": (validation, both), "all": (0, both)}[split]


_BYTES = "<u4"  # of a number of bytes in its file


@functools.lru_cache(maxsize=64)
def _mapped(path: Path, dtype: str) -> np.ndarray:
    return np.memmap(path, dtype, "r").view(np.ndarray)


def prepare(data: TextConfig, train: TextConfig, root: Path) -> Corpus:
    """The corpus of `data`, tokenized for a run that trains on `train`; prepared unless it is.

    Raises:
      DataError: see `documents` and `tokenizer`.
    """
    of, docs = pieces(data, train, root), documents(data.source, data.part, root)
    tokens = tokenizer(train, root)
    split = [data.validation_fraction, of.rule]
    content_hash = key_of([of.content, docs.part, split, tokens.identity, tokens.separator])

    def build(folder: Path) -> None:
        _write_tokens(of, data.validation_fraction, tokens, content_hash, folder)

    return opened(build_once(root / "corpora" / content_hash, build))


@functools.lru_cache(maxsize=256)
def opened(folder: Path) -> Corpus:
    """The prepared corpus in a folder."""
    return Corpus(folder, **json.loads((folder / "facts.json").read_text()))


def _write_tokens(
    of: Pieces, fraction: float, tokens: Tokenizer, content_hash: str, folder: Path
) -> None:
    begun, splits = time.perf_counter(), of.split(fraction)
    dtype = np.dtype("<u2" if tokens.vocab <= 2**16 else "<u4")
    separator = np.array([tokens.separator], dtype).tobytes()
    counts = []
    with open(folder / "tokens.bin", "wb") as file, open(folder / "bytes.bin", "wb") as sizes:
        for indices in splits:
            start = file.tell()
            for at in range(0, len(indices), 256):  # documents at a time: BPE uses every core
                texts = list(of.texts.read(indices[at : at + 256]))
                for encoded, own in _encoded(tokens, texts):
                    file.write(separator)
                    file.write(encoded.astype(dtype).tobytes())
                    if own is not None:
                        sizes.write(own.astype(_BYTES).tobytes())
            counts.append((file.tell() - start) // dtype.itemsize)
    both = np.concatenate(splits)
    np.save(folder / "digests.npy", of.texts.digests[both])
    if of.by != "documents":
        np.save(folder / "documents.npy", of.documents[both])
    if tokens.token_bytes is not None:
        np.save(folder / "token_bytes.npy", tokens.token_bytes)
        (folder / "bytes.bin").unlink()
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
        split_by=of.by,
        seconds=time.perf_counter() - begun,
    )
    facts = {name: value for name, value in asdict(corpus).items() if name != "folder"}
    (folder / "facts.json").write_text(json.dumps(facts))


def _encoded(
    tokens: Tokenizer, texts: Sequence[bytes]
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The tokens of each text; and, where no token has bytes of its own, the bytes of the separator
    before them and of each.
    """
    if not isinstance(tokens, exchanged.ImportedTokenizer) or tokens.token_bytes is not None:
        yield from ((encoded, None) for encoded in tokens.encode_many(texts))
        return
    for encoded, own in tokens.measured(texts):
        yield encoded, own if not len(encoded) else np.concatenate([[0], own])
