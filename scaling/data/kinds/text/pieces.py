"""What the tokens of a tokenizer.json of others stand for: each by itself, and those of a text.

Takes the file as JSON, and what the library tokenizers says of a text; NumPy only. Byte-level BPE
spells bytes as printable characters (`LETTERS`); WordPiece marks what goes on a word, SentencePiece
what begins one. Called by `exchanged.py`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scaling.errors import UserError

# The character that stands for each byte: the printable ones of Latin-1 for themselves, the others
# in their order from 256 on (Radford et al. 2019, GPT-2).
_PLAIN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PLAIN]
LETTERS = {byte: chr(byte) for byte in _PLAIN} | {
    byte: chr(256 + i) for i, byte in enumerate(_OTHERS)
}
_BYTES = {letter: byte for byte, letter in LETTERS.items()}
_FALLBACK = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
_SPACE = "\u2581"  # SentencePiece's
_NOWHERE = "\ufdd0"  # no character, and in no text: Unicode leaves it out for good
_UNKNOWN = "\ufffd".encode()  # Unicode's mark of what could not be read
_CLOSING = frozenset(".,?!")  # that WordPiece writes without the space before


def pieces(library: Any, said: Mapping[str, Any], vocab: int) -> list[bytes]:
    """The text of each token: what a text says is that of its tokens in a row, with a space before
    its first word where the tokenizer has it so. Raises UserError for a byte-level BPE with tokens
    that are not spelled in `LETTERS`.

    Args:
      library: the tokenizer.
      said: it as JSON.
    """
    added, unknown = library.get_added_tokens_decoder(), _unknown(said)
    of_bytes, found = _is_byte_level(said), list[bytes]()
    for i in range(vocab):
        token = library.id_to_token(i)
        if i == unknown or token == unknown:
            found.append(_UNKNOWN)
        elif token is None or (i in added and added[i].special):
            found.append(b"")
        elif i in added:
            found.append(token.encode())
        elif not of_bytes:
            found.append(_spoken(token, said))
        elif all(letter in _BYTES for letter in token):
            found.append(bytes(_BYTES[letter] for letter in token))
        else:
            raise UserError(
                f"tokenizer.json: token {i}, {token!r}, is not spelled in the characters of "
                "byte-level BPE, which the file says it is; leave it out with --notokenizer"
            )
    return found


def unspelled(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tokenizer that cuts texts alike, but for those in which special tokens are written out:
    unigrams have these among their pieces, and would find them.
    """
    if said["model"]["type"] != "Unigram":
        return said
    special = {token["content"] for token in said["added_tokens"] if token["special"]}
    vocab = [[_NOWHERE + p if p in special else p, score] for p, score in said["model"]["vocab"]]
    kept = [token for token in said["added_tokens"] if not token["special"]]
    model = {**said["model"], "vocab": vocab}
    return {**said, "model": model, "added_tokens": kept, "post_processor": None}


def is_exact(said: Mapping[str, Any]) -> bool:
    """Whether a token stands for the same bytes in every text: those of byte-level BPE, where
    nothing is changed before.
    """
    added = any(t["lstrip"] or t["rstrip"] for t in said["added_tokens"] if not t["special"])
    spaced = any(part.get("add_prefix_space") for part in _parts(said, "pre_tokenizer"))
    return _is_byte_level(said) and not said["normalizer"] and not added and not spaced


def measure(ends: np.ndarray, length: int) -> np.ndarray:
    """Bytes of each token of a text of `length` bytes: int64, those up to its end that no token
    before it has; the last has the rest. Of no tokens [all].

    Args:
      ends: the byte behind each token.
    """
    if not len(ends):
        return np.array([length], np.int64)
    reached = np.maximum.accumulate(ends)
    reached[-1] = length
    return np.diff(reached, prepend=0)


def places(text: bytes, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """First byte of each token of a text, and the one behind its last: int64 [2, N].

    Args:
      offsets: the same in characters.
    """
    found = np.array(offsets, np.int64).reshape(-1, 2).T
    if not text.isascii():
        codes = text.decode(errors="surrogateescape").encode("utf-32-le", "surrogatepass")
        code = np.frombuffer(codes, "<u4")
        sizes = 1 + (code >= 0x80) + (code >= 0x800).astype(np.int64) + (code >= 0x10000)
        sizes[(code >= 0xDC80) & (code <= 0xDCFF)] = 1  # a byte that is no UTF-8, as `read` has it
        found = np.concatenate([[0], np.cumsum(sizes)])[found]
    return found


def read(text: bytes) -> str:
    """A text with Unicode's mark in the place of each byte that is no UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return re.sub("[\udc80-\udcff]", "\ufffd", text.decode(errors="surrogateescape"))


def _spoken(token: str, said: Mapping[str, Any]) -> bytes:
    """Of a tokenizer that does not spell bytes."""
    model = said["model"]
    if model["type"] == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        if token.startswith(prefix):
            return token.removeprefix(prefix).encode()
        tight = token in _CLOSING and any(p.get("cleanup") for p in _parts(said, "decoder"))
        return (token if tight else f" {token}").encode()
    if model["type"] == "WordLevel":
        return f" {token}".encode()
    if model.get("byte_fallback") and token in _FALLBACK:
        return _FALLBACK[token]
    if suffix := model.get("end_of_word_suffix"):
        return (f"{token.removesuffix(suffix)} " if token.endswith(suffix) else token).encode()
    return token.replace(_SPACE, " ").encode()


def _unknown(said: Mapping[str, Any]) -> int | str | None:
    """The token for what a vocabulary has no tokens for: its number or its name."""
    found = said["model"].get("unk_id", said["model"].get("unk_token"))
    return found if isinstance(found, int | str) else None


def _is_byte_level(said: Mapping[str, Any]) -> bool:
    parts = (*_parts(said, "pre_tokenizer"), *_parts(said, "decoder"))
    return said["model"]["type"] == "BPE" and any(part["type"] == "ByteLevel" for part in parts)


def _parts(said: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """What a step is made of, each by itself."""
    step = said.get(name)
    inner = () if step is None else (step.get("pretokenizers") or step.get("decoders") or (step,))
    yield from inner
