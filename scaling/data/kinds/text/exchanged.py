"""Tokenizers in the form in which other programs keep them, `tokenizer.json`, both ways.

`exported` writes a vocabulary of this code as a byte-level BPE, in which each byte is a printable
character (`LETTERS`); `ImportedTokenizer` reads theirs, of whatever kind, and `adopt` keeps one for
a run. Called by `tokenizers.py` and by kinds of data.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.kinds.text import pieces
from scaling.data.kinds.text.pieces import LETTERS
from scaling.data.store import build_once, key_of
from scaling.errors import DataError, UserError

SEPARATOR = "<|separator|>"
_FILE = "tokenizer.json"
_SAMPLE = "a 1"  # any text of a token or more

# Tokens around texts, in their order, and None in the place of each text; the token type of each.
Template = tuple[tuple[int | None, int], ...]


def exported(
    pieces: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    words: str | None,
    before: bool = True,
) -> bytes:
    """The tokenizer.json of tokens and merges in Latin-1 (one character a byte), with the separator
    as the last token, which stands before every text if `before`.

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
    if before:
        library.post_processor = processors.TemplateProcessing(
            single=f"{SEPARATOR} $A",
            pair=f"{SEPARATOR} $A {SEPARATOR}:1 $B:1",
            special_tokens=[(SEPARATOR, library.token_to_id(SEPARATOR))],
        )
    return library.to_str(pretty=True).encode()


class ImportedTokenizer:
    """A tokenizer.json of others, from the folder that `adopt` made.

    Text that is no UTF-8 is read with a mark in the place of what is not. What a tokenizer changes
    before it cuts (capitals, accents, white space) does not come back: `decode` gives what the
    tokens say. Those that stand for no text (special ones, numbers without a token) give none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        facts = json.loads((folder / "facts.json").read_text())
        self.identity: str = facts["identity"]
        self.vocab: int = facts["vocab"]
        self.separator: int = facts["separator"]
        # Before a text that a decoder writes
        self.begins: int = facts.get("begins", self.separator)

    def __len__(self) -> int:
        return self.vocab

    @functools.cached_property
    def _library(self) -> Any:
        import tokenizers

        return tokenizers.Tokenizer.from_file(str(self.folder / _FILE))

    @functools.cached_property
    def _cutter(self) -> Any:
        """The same, to which special tokens that are written out in a text are text."""
        import tokenizers

        library = tokenizers.Tokenizer.from_str(json.dumps(pieces.unspelled(self._said)))
        library.encode_special_tokens = True
        library.no_truncation()
        library.no_padding()
        return library

    @functools.cached_property
    def _said(self) -> Mapping[str, Any]:
        return json.loads(self._library.to_str())

    @functools.cached_property
    def _pieces(self) -> list[bytes]:
        return pieces.pieces(self._library, self._said, self.vocab)

    @functools.cached_property
    def token_bytes(self) -> np.ndarray | None:
        """As `Tokenizer` has it; None for all but a byte-level BPE that reads texts as they are."""
        if not pieces.is_exact(self._said):
            return None
        return np.array([len(piece) for piece in self._pieces], np.int32)

    @functools.cached_property
    def marks(self) -> list[int]:
        """Tokens that are there to stand for spans of text, in order (<extra_id_0> and on)."""
        found = (self._library.token_to_id(f"<extra_id_{i}>") for i in itertools.count())
        return list(itertools.takewhile(lambda token: token is not None, found))

    def encode(self, text: bytes | str) -> list[int]:
        return self._cutter.encode(_as_text(text), add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        read = [_as_text(text) for text in texts]
        encoded = self._cutter.encode_batch_fast(read, add_special_tokens=False)
        return (np.array(e.ids, np.uint32) for e in encoded)

    def measured(self, texts: Sequence[bytes]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each text its tokens, and the bytes that each of them stands for, which add up to all
        that the text has: what no token covers, as white space that is dropped, counts with the
        next token, at the end with the last. int64 of equal lengths; of a text without tokens the
        one number is of its separator.
        """
        for text, (tokens, _, ends) in zip(texts, self.located(texts), strict=True):
            yield tokens, pieces.measure(ends, len(text))

    def located(self, texts: Sequence[bytes]) -> Iterator[np.ndarray]:
        read = [_as_text(text) for text in texts]
        encoded = self._cutter.encode_batch(read, add_special_tokens=False)
        for text, found in zip(texts, encoded, strict=True):
            yield np.stack([np.array(found.ids, np.int64), *pieces.places(text, found.offsets)])

    def template(self, texts: int) -> Template | None:
        return self._templates[texts - 1]

    @functools.cached_property
    def _templates(self) -> tuple[Template | None, Template | None]:
        """Of one text and of two: None where the file puts nothing around them."""
        import tokenizers

        library = tokenizers.Tokenizer.from_str(self._library.to_str())
        library.no_truncation()
        library.no_padding()
        one, two = library.encode(_SAMPLE), library.encode(_SAMPLE, _SAMPLE)
        return _template(one, 1), _template(two, 2)

    def source(self, text: bytes | str) -> list[int]:
        found = list[int]()
        for token, _ in self.template(1) or ((None, 0),):
            found += self.encode(text) if token is None else [token]
        return found

    def decode(self, ids: Iterable[int]) -> bytes:
        return b"".join(self._pieces[i] for i in ids if i < self.vocab)

    def exported(self) -> tuple[bytes, str]:
        content = (self.folder / _FILE).read_bytes()
        return content, str(self._library.id_to_token(self.separator))

    def beside(self) -> dict[str, bytes]:
        """The other files that it came with."""
        others = (path for path in self.folder.iterdir() if path.name not in (_FILE, "facts.json"))
        return {path.name: path.read_bytes() for path in others}


def adopt(
    data: Any, given: Mapping[str, bytes], ends: tuple[int | None, int | None], root: Path
) -> Any:
    """See `Kind.adopt`: the tokenizer lies in <root>/tokenizers, by the hash of its files and of
    the tokens before a document and before a text that is written.
    """
    import tokenizers

    text = given[_FILE].decode(errors="replace")
    try:
        library = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise UserError(
            f"tokenizer.json cannot be read ({error}); leave it out with --notokenizer"
        ) from error
    separator, begins = ends
    if separator is None:  # that which a text begins with, where the tokenizer puts one there
        separator = next(iter(library.encode("").ids), None)
    if separator is None:
        raise UserError(
            "config.json has neither bos_token_id nor eos_token_id, the token between documents, "
            "and tokenizer.json puts none before a text; add one, or leave the tokenizer out with "
            "--notokenizer"
        )
    vocab = max(library.get_vocab(with_added_tokens=True).values()) + 1
    for key, token in (
        ("bos_token_id or eos_token_id", separator),
        ("decoder_start_token_id", separator if begins is None else begins),
    ):
        if not 0 <= token < vocab:
            raise UserError(
                f"config.json: {key} is {token}, and tokenizer.json has {vocab} tokens; leave the "
                "tokenizer out with --notokenizer"
            )
    pieces.pieces(library, json.loads(library.to_str()), vocab)
    facts: dict[str, Any] = {"vocab": vocab, "separator": separator}
    told: list[Any] = [text, separator]
    if begins not in (None, separator):
        facts["begins"] = begins
    others = {n: c.decode(errors="replace") for n, c in sorted(given.items()) if n != _FILE}
    if others or "begins" in facts:
        told += [others, begins]
    name = f"json-{key_of(told)}"

    def build(folder: Path) -> None:
        for file, content in given.items():
            (folder / file).write_bytes(content)
        identity = f"json-{key_of([text, separator])}"
        (folder / "facts.json").write_text(json.dumps({"identity": identity} | facts))

    build_once(root / "tokenizers" / name, build)
    data = dataclasses.replace(data, tokenizer="imported", tokenizer_file=name)
    if hasattr(data, "bpe_vocab"):  # a vocabulary that was to be trained is not
        data = dataclasses.replace(data, bpe_vocab=type(data)().bpe_vocab)
    return data


def opened(name: str | None, root: Path) -> ImportedTokenizer:
    """The one that `adopt` kept. Raises DataError where it is not there."""
    folder = root / "tokenizers" / (name or "none")
    if not (folder / "facts.json").is_file():
        raise DataError(
            f"data.tokenizer_file={name}: no such tokenizer is in {root}; bring its model here: "
            "launch.py import"
        )
    return _opened(folder)


@functools.lru_cache(maxsize=4)
def _opened(folder: Path) -> ImportedTokenizer:
    return ImportedTokenizer(folder)


def _template(row: Any, texts: int) -> Template | None:
    """Of a row that the library has made of `_SAMPLE`, once or twice."""
    found, met = list[tuple[int | None, int]](), set[int]()
    for token, text, kind in zip(row.ids, row.sequence_ids, row.type_ids, strict=True):
        if text is None:
            found.append((token, kind))
        elif text not in met:
            met.add(text)
            found.append((None, kind))
    return tuple(found) if len(met) == texts < len(found) else None


def _as_text(text: bytes | str) -> str:
    return text if isinstance(text, str) else pieces.read(text)
