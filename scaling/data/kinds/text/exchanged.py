"""Tokenizers in the form in which other programs keep them, `tokenizer.json`, both ways.

`exported` writes a vocabulary of this code as a byte-level BPE, in which each byte is a printable
character (`LETTERS`); `ImportedTokenizer` reads theirs, and `adopt` keeps one for a run. Called by
`tokenizers.py` and `corpus.py`.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.store import build_once, key_of
from scaling.errors import DataError, UserError

SEPARATOR = "<|separator|>"
# The character that stands for each byte: the printable ones of Latin-1 for themselves, the others
# in their order from 256 on (Radford et al. 2019, GPT-2).
_PLAIN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PLAIN]
LETTERS = {byte: chr(byte) for byte in _PLAIN} | {
    byte: chr(256 + i) for i, byte in enumerate(_OTHERS)
}
_BYTES = {letter: byte for byte, letter in LETTERS.items()}


def exported(
    pieces: Mapping[str, int], merges: Sequence[tuple[str, str]], words: str | None
) -> bytes:
    """The tokenizer.json of tokens and merges in Latin-1 (one character a byte), with the separator
    as the last token, before every text.

    Args:
      words: what merges stay within, a pattern for characters; None: there are none.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors

    def spelled(piece: str) -> str:
        return "".join(LETTERS[byte] for byte in piece.encode("latin-1"))

    library = tokenizers.Tokenizer(
        models.BPE(
            vocab={spelled(piece): i for piece, i in pieces.items()},
            merges=[(spelled(a), spelled(b)) for a, b in merges],
        )
    )
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if words is not None:
        steps.insert(0, pre_tokenizers.Split(tokenizers.Regex(words), behavior="isolated"))
    library.pre_tokenizer = pre_tokenizers.Sequence(steps)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([SEPARATOR])
    ends = [(SEPARATOR, library.token_to_id(SEPARATOR))]
    library.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A", special_tokens=ends
    )
    return library.to_str(pretty=True).encode()


class ImportedTokenizer:
    """A tokenizer.json of others, of byte-level BPE, from the folder that `adopt` made.

    Text that is no UTF-8 is read with a mark in the place of what is not. Tokens that stand for no
    text (those that are special, and numbers without a token) have no bytes.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        facts = json.loads((folder / "facts.json").read_text())
        self.identity: str = facts["identity"]
        self.vocab: int = facts["vocab"]
        self.separator: int = facts["separator"]

    @functools.cached_property
    def _library(self) -> Any:
        import tokenizers

        library = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        library.encode_special_tokens = True  # written out in a text they are text
        library.no_truncation()
        library.no_padding()
        return library

    @functools.cached_property
    def _pieces(self) -> list[bytes]:
        return pieces(self._library, self.vocab)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray:
        return np.array([len(piece) for piece in self._pieces], np.int32)

    def encode(self, text: bytes | str) -> list[int]:
        return self._library.encode(_as_text(text), add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        read = [_as_text(text) for text in texts]
        encoded = self._library.encode_batch_fast(read, add_special_tokens=False)
        return (np.array(e.ids, np.uint32) for e in encoded)

    def decode(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._pieces[i] for i in ids if i < self.vocab)

    def exported(self) -> tuple[bytes, str]:
        content = (self.folder / "tokenizer.json").read_bytes()
        return content, str(self._library.id_to_token(self.separator))


def pieces(library: Any, vocab: int) -> list[bytes]:
    """The text of each token. Raises UserError for tokens that are not spelled in `LETTERS`."""
    added, found = library.get_added_tokens_decoder(), []
    for i in range(vocab):
        token = library.id_to_token(i)
        if token is None or (i in added and added[i].special):
            found.append(b"")
        elif i in added:
            found.append(token.encode())
        elif all(letter in _BYTES for letter in token):
            found.append(bytes(_BYTES[letter] for letter in token))
        else:
            raise UserError(
                f"tokenizer.json: token {i}, {token!r}, is not of byte-level BPE, the only kind "
                "that is read here; leave the tokenizer out with --notokenizer"
            )
    return found


def adopt(data: Any, content: bytes, separator: int, root: Path) -> Any:
    """See `Kind.adopt`: the tokenizer lies in <root>/tokenizers, by the hash of its file and its
    separator.
    """
    import tokenizers

    try:
        library = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises a bare Exception
        raise UserError(
            f"tokenizer.json cannot be read ({error}); leave it out with --notokenizer"
        ) from error
    vocab = max(library.get_vocab(with_added_tokens=True).values()) + 1
    if not 0 <= separator < vocab:
        raise UserError(
            f"config.json: bos_token_id or eos_token_id is {separator}, and tokenizer.json has "
            f"{vocab} tokens; leave the tokenizer out with --notokenizer"
        )
    pieces(library, vocab)
    name = f"json-{key_of([content.decode(), separator])}"

    def build(folder: Path) -> None:
        (folder / "tokenizer.json").write_bytes(content)
        facts = {"identity": name, "vocab": vocab, "separator": separator}
        (folder / "facts.json").write_text(json.dumps(facts))

    build_once(root / "tokenizers" / name, build)
    return dataclasses.replace(data, tokenizer="imported", tokenizer_file=name)


def opened(name: str | None, root: Path) -> ImportedTokenizer:
    """The one that `adopt` kept. Raises DataError where it is not there."""
    folder = root / "tokenizers" / (name or "none")
    if not (folder / "facts.json").is_file():
        raise DataError(
            f"data.tokenizer_file={name}: no such tokenizer is in {root}; bring its model here: "
            "launch.py import"
        )
    return ImportedTokenizer(folder)


def _as_text(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.decode(errors="replace")
