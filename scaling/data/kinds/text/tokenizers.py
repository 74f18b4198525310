"""Text to tokens and back, exactly, for any bytes; those of others are in `exchanged.py`.

Two vocabularies: the 256 bytes, and a byte-pair encoding trained on a train split. Both add one
separator token, which stands before every document and which no text can produce. Called by
`corpus.py`, which stores the tokens, by `rows.py`, and by whoever prints what a model writes.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scaling.data.kinds.text import exchanged
from scaling.data.kinds.text.exchanged import Template
from scaling.data.store import key_of

# What BPE may not merge across: words with the space before them (any byte of a multi-byte letter
# counts as a letter), short runs of digits, runs of other marks, runs of white space.
_WORDS = (
    r" ?[A-Za-z\x{80}-\x{FF}]+| ?[0-9]{1,3}| ?[^A-Za-z0-9\x{80}-\x{FF} \t-\r]+"
    r"|[ \t-\r]+(?= [^ \t-\r])|[ \t-\r]+"
)


class Tokenizer(Protocol):
    """What every tokenizer has."""

    @property
    def vocab(self) -> int:
        """Number of tokens, the separator included."""

    def __len__(self) -> int:
        """The same."""

    def __hash__(self) -> int:
        """`chosen` gives an equal one for the same data."""

    @property
    def separator(self) -> int:
        """The token before each document."""

    @property
    def begins(self) -> int:
        """The token before a text that is written of another; as a rule the separator."""

    @property
    def identity(self) -> str:
        """Equal for two tokenizers that give the same tokens for every text."""

    @property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of text that each token stands for: int32 [vocab], 0 for the separator; None: they
        follow from the text around it (`ImportedTokenizer.measured`).
        """

    def encode(self, text: bytes | str) -> list[int]:
        """The tokens of a text, without a separator; str is taken as UTF-8."""

    def encode_many(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        """The tokens of each text, as `encode`."""

    def located(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        """Of each text its tokens, the first byte that each of them stands for and the one behind
        the last: int64 [3, N].
        """

    def template(self, texts: int) -> Template | None:
        """What stands around so many texts, one or two, in a row; None: it does not say it."""

    def source(self, text: bytes | str) -> list[int]:
        """A text as it is read to write another, with what stands around it there."""

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text of some tokens; a separator adds nothing, nor do numbers without a token."""

    def exported(self) -> tuple[bytes, str]:
        """The file that other programs read it from (`exchanged.py`), and its separator there."""


@dataclass(frozen=True)
class ByteTokenizer:
    """Token i is byte i; 256 is the separator."""

    vocab = 257
    separator = begins = 256
    identity = "bytes"

    def __len__(self) -> int:
        return self.vocab

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        return np.array([1] * 256 + [0], np.int32)

    def encode(self, text: bytes | str) -> list[int]:
        return list(_as_bytes(text))

    def encode_many(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        return (np.frombuffer(text, np.uint8) for text in texts)

    def located(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        for text in texts:
            places = np.arange(len(text))
            yield np.stack([np.frombuffer(text, np.uint8).astype(np.int64), places, places + 1])

    def template(self, texts: int) -> Template | None:
        return None

    source = encode

    def decode(self, ids: Iterable[int]) -> bytes:
        return bytes(i for i in ids if i < self.separator)

    def exported(self) -> tuple[bytes, str]:
        return exchanged.exported({chr(b): b for b in range(256)}, [], None), exchanged.SEPARATOR


class BpeTokenizer:
    """A trained byte-pair encoding, read from the folder that `train_bpe` wrote.

    Byte b is the character chr(b) to the library, so that any bytes are a text it can take, and the
    text of a token is its bytes in Latin-1. The separator is no token of the library at all: it is
    the number after its last one.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        facts = json.loads((folder / "facts.json").read_text())
        self.identity: str = facts["identity"]
        self.vocab: int = facts["vocab"]
        self.separator: int = self.vocab - 1
        self.begins: int = self.separator

    def __len__(self) -> int:
        return self.vocab

    @functools.cached_property
    def _library(self) -> Any:
        import tokenizers

        return tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @functools.cached_property
    def _pieces(self) -> list[bytes]:
        tokens = [self._library.id_to_token(i) for i in range(self.separator)]
        return [token.encode("latin-1") for token in tokens] + [b""]

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        return np.array([len(piece) for piece in self._pieces], np.int32)

    def encode(self, text: bytes | str) -> list[int]:
        return self._library.encode(_as_bytes(text).decode("latin-1")).ids

    def encode_many(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        encoded = self._library.encode_batch_fast([text.decode("latin-1") for text in texts])
        return (np.array(e.ids, np.uint32) for e in encoded)

    def located(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        for tokens in self.encode_many(texts):
            ends = np.cumsum(self.token_bytes[tokens], dtype=np.int64)
            yield np.stack([tokens.astype(np.int64), ends - self.token_bytes[tokens], ends])

    def template(self, texts: int) -> Template | None:
        return None

    source = encode

    def decode(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._pieces[i] for i in ids if i < self.vocab)

    def exported(self) -> tuple[bytes, str]:
        model = json.loads((self.folder / "tokenizer.json").read_text())["model"]
        merges = [tuple(pair) for pair in model["merges"]]
        # Bytes from 0x80 on are those of characters from U+0080 on.
        words = _WORDS.replace(r"\x{FF}", r"\x{10FFFF}")
        return exchanged.exported(model["vocab"], merges, words), exchanged.SEPARATOR


def chosen(data: Any, root: Path) -> Tokenizer:
    """That which data choose that train none: bytes, or one of others. Raises DataError where it is
    not there.
    """
    if data.tokenizer == "imported":
        return exchanged.opened(data.tokenizer_file, root)
    return ByteTokenizer()


def train_bpe(texts: Iterable[bytes], vocab: int, folder: Path) -> None:
    """Trains a byte-pair encoding of `vocab` tokens, separator included, and writes it to a folder.

    A small corpus may run out of pairs to merge and give fewer tokens. The result depends only on
    the texts (not on their order) and on `vocab`.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(_WORDS), behavior="isolated")
    alphabet = [chr(byte) for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - 1, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator((text.decode("latin-1") for text in texts), trainer)
    library.save(str(folder / "tokenizer.json"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    identity = f"bpe-{key_of([model['vocab'], model['merges'], _WORDS])}"
    facts = {"identity": identity, "vocab": library.get_vocab_size() + 1}
    (folder / "facts.json").write_text(json.dumps(facts))


def _as_bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
