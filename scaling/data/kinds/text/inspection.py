"""What a corpus holds, before anything trains on it.

Takes the data of a config; prepares the corpus, if it is not, and gives counts and its first lines.
Called by `launch.py data`.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling import files
from scaling.data.kinds.text.corpus import Corpus, pieces, prepare, tokenizer
from scaling.data.kinds.text.documents import documents
from scaling.data.kinds.text.fields import TextConfig
from scaling.data.kinds.text.tokenizers import Tokenizer

DOCUMENT = "<|document|>"  # how the separator is shown
_SEEN = 1 << 16  # tokens from the start that are looked through for lines


@dataclass(frozen=True)
class Split:
    """One side of a corpus."""

    texts: int  # documents, or blocks of them
    bytes: int
    tokens: int  # separators included
    windows: int  # of data.seq_len tokens


@dataclass(frozen=True)
class Inspection:
    """A corpus as a run would train on it."""

    source: str
    part: str
    corpus: str  # content hash
    documents: int  # that were read, all of them
    bytes: int  # in them
    empty: int
    empty_names: list[str]  # of some of them
    copies: int  # of a document that was there before, dropped
    block_copies: int  # likewise, of blocks, where these are what is split
    crlf: int  # documents with line ends of carriage return and line feed
    longest: str
    longest_bytes: int
    split_by: str  # documents, or blocks of ...
    validation_fraction: float  # that was asked for
    tokenizer: str
    vocab: int
    seq_len: int
    train: Split
    validation: Split
    first_lines: list[str]  # of the train split, as a model sees them
    seconds: float  # that preparing it took
    prepared_now: bool


def inspect(data: TextConfig, lines: int, root: Path | None = None) -> Inspection:
    """Counts of a training corpus, and its first `lines` lines.

    Raises:
      DataError: see `prepare`.
      ConfigError: a BPE vocabulary that is too small.
    """
    root = root or files.data_dir()
    started, begun = time.time(), time.perf_counter()
    corpus = prepare(data, data, root)
    seconds = time.perf_counter() - begun
    now = (corpus.folder / "facts.json").stat().st_mtime >= started
    docs, of = documents(data.source, data.part, root), pieces(data, data, root)
    facts, tokens = docs.facts, tokenizer(data, root)
    held_out, kept = of.split(data.validation_fraction)

    def side(indices: np.ndarray, count: int) -> Split:
        windows = max(0, count - 1) // data.seq_len
        return Split(len(indices), int(of.texts.lengths[indices].sum()), count, windows)

    longest, longest_bytes = facts["longest"]
    return Inspection(
        source=data.source,
        part=docs.part,
        corpus=corpus.content_hash,
        documents=facts["documents"],
        bytes=facts["bytes"],
        empty=facts["empty"],
        empty_names=facts["empty_names"],
        copies=facts["copies"],
        block_copies=of.copies,
        crlf=facts["crlf"],
        longest=longest,
        longest_bytes=longest_bytes,
        split_by=corpus.split_by,
        validation_fraction=data.validation_fraction,
        tokenizer=data.tokenizer,
        vocab=corpus.vocab,
        seq_len=data.seq_len,
        train=side(kept, corpus.train_tokens),
        validation=side(held_out, corpus.validation_tokens),
        first_lines=_first_lines(corpus, tokens, lines),
        seconds=seconds if now else facts["seconds"] + corpus.seconds,
        prepared_now=now,
    )


def _first_lines(corpus: Corpus, tokens: Tokenizer, lines: int) -> list[str]:
    """Lines of the train stream; each document begins with `DOCUMENT`, on a line of its own where
    the one before has an end.
    """
    stream = np.asarray(corpus.tokens("train")[:_SEEN])
    starts = np.flatnonzero(stream == corpus.separator)
    out: list[str] = []
    for part in np.split(stream, starts[1:]):
        if len(out) >= lines:
            break
        text = tokens.decode(part.tolist())
        out += [
            DOCUMENT + _visible(line) if not i else _visible(line)
            for i, line in enumerate(text.removesuffix(b"\n").split(b"\n"))
        ]
    return out[:lines]


def _visible(line: bytes) -> str:
    """What a terminal can show: bytes that are no UTF-8, and control characters, as escapes."""
    text = line.decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)
