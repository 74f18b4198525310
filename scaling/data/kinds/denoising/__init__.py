"""Text with spans left out, to be read, and the spans, to be written (T5: Raffel et al. 2020, arXiv
1910.10683, section 3.1.4); the unit is the token.

A span gives way to a mark of its own in the source; the target has each mark, the span behind it,
and at its end one mark more. The documents, their tokens and splits are those of `kinds/text`. The
marks are those of the tokenizer, where it has some, as T5's has; else numbers behind its tokens.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.contracts import AT_LEAST_ONE, WITHIN, Facts, Shape
from scaling.data import draws
from scaling.data.kinds.text import KIND as TEXT
from scaling.data.kinds.text import TextConfig
from scaling.data.kinds.text.corpus import tokenizer
from scaling.data.kinds.text.windows import Windows
from scaling.errors import ConfigError


@dataclass(frozen=True)
class DenoisingConfig(TextConfig):
    """Text, and what is left out of a window; documents in it are read as one text."""

    kind: Literal["denoising"] = "denoising"  # type: ignore[assignment]
    mask_documents: bool = False
    share: float = 0.15  # of a window's tokens, that are left out
    span: float = 3.0  # tokens of a span, on average


def _counts(data: DenoisingConfig) -> tuple[int, int]:
    """(tokens that are left out, spans) of a window. Raises ConfigError for one too short."""
    most = data.seq_len - 1
    noise = min(max(1, round(data.share * data.seq_len)), most)
    spans = min(max(1, round(noise / data.span)), noise, data.seq_len - noise)
    if most < 1:
        raise ConfigError(f"data.seq_len={data.seq_len}: a window needs two tokens, or more")
    return noise, spans


@dataclass(frozen=True)
class Denoising:
    """The windows of a split, with spans left out."""

    windows: Windows
    length: int
    noise: int
    marks: np.ndarray  # tokens of the spans, and of the end: int64 [spans + 1]
    begins: int  # the token before a target

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """`source`, `source_segments` int32 [B, L - noise + spans]; `tokens`, `targets`,
        `positions`, `target_bytes` int32 and `loss_mask` float32 [B, noise + spans + 1]. The spans
        follow from the keys.
        """
        if keys is None:
            keys = draws.folded(draws.key("denoising"), indices)
        tokens = self.windows.take(indices)["tokens"]
        spans = len(self.marks) - 1
        kept = compositions(keys, self.length - self.noise, spans)
        left = compositions(draws.mixed(keys ^ draws.STEP), self.noise, spans)
        marks = np.tile(self.marks, (len(indices), 1))
        # What is kept and what is left out by turns, a mark behind the one, before the other.
        turns = np.stack([kept, left], axis=2).reshape(len(indices), -1)
        numbers = np.tile(np.arange(2 * spans), len(indices))
        of_turn = np.repeat(numbers, turns.ravel()).reshape(tokens.shape)
        source = _joined(tokens, of_turn, 0, kept, marks[:, :-1], behind=True)
        targets = _joined(tokens, of_turn, 1, left, marks[:, :-1], behind=False)
        targets = np.concatenate([targets, marks[:, -1:]], axis=1).astype(np.int32)
        given = np.roll(targets, 1, axis=1)
        given[:, 0] = self.begins
        of_text, none = self.windows.token_bytes(indices), np.zeros(marks.shape, np.int64)
        own = _joined(of_text, of_turn, 1, left, none[:, :-1], behind=False)
        return {
            "source": source.astype(np.int32),
            "source_segments": np.ones(source.shape, np.int32),
            "tokens": given,
            "targets": targets,
            "positions": np.tile(np.arange(targets.shape[1], dtype=np.int32), (len(targets), 1)),
            "loss_mask": np.ones(targets.shape, np.float32),
            "target_bytes": np.pad(own, ((0, 0), (0, 1))).astype(np.int32),
        }


def compositions(keys: np.ndarray, total: int, parts: int) -> np.ndarray:
    """Positive whole numbers that sum to `total`, every such list as likely as any other: int64
    [B, parts].
    """
    cuts = np.argsort(draws.bits(keys, total - 1), axis=1)[:, : parts - 1] + 1
    ends = np.zeros((len(keys), parts + 1), np.int64)
    ends[:, 1:-1], ends[:, -1] = np.sort(cuts, axis=1), total
    return np.diff(ends, axis=1)


def _joined(
    tokens: np.ndarray,
    of_turn: np.ndarray,
    odd: int,
    lengths: np.ndarray,
    marks: np.ndarray,
    behind: bool,
) -> np.ndarray:
    """The tokens of the even or of the odd turns, with each one's mark."""
    rows, spans = lengths.shape
    chosen = tokens[of_turn % 2 == odd].reshape(rows, -1)
    ends = np.cumsum(lengths, axis=1) + np.arange(spans)
    places = ends if behind else ends - lengths
    found = np.empty((rows, chosen.shape[1] + spans), np.int64)
    is_mark = np.zeros(found.shape, bool)
    np.put_along_axis(is_mark, places, True, axis=1)
    found[is_mark], found[~is_mark] = marks.ravel(), chosen.ravel()
    return found


class MarkedText:
    """A tokenizer of text with marks in it, which are written <0>, <1> and so on."""

    def __init__(self, words: Any, spans: int):
        """`words`: the tokenizer of text without; of so many spans there is a mark more. Raises
        ConfigError where it has marks of its own, and not as many.
        """
        self.words, self.separator, self.vocab = words, words.separator, words.vocab
        self.marks: list[int] = getattr(words, "marks", [])
        self.begins: int = words.begins
        self._is_own = bool(self.marks)
        if not self.marks:
            self.marks = list(range(words.vocab, words.vocab + spans + 1))
            self.vocab += spans + 1
        if len(self.marks) <= spans:
            raise ConfigError(
                f"data.share and data.span leave out {spans} spans of a window, for which "
                f"{spans + 1} marks are needed, and the tokenizer has {len(self.marks)}; lower "
                "data.share or data.seq_len, or raise data.span"
            )
        self.used = np.array(self.marks[: spans + 1])

    def __len__(self) -> int:
        return self.vocab

    @property
    def token_bytes(self) -> np.ndarray | None:
        """As of text; marks have none."""
        of_text: np.ndarray | None = self.words.token_bytes
        if of_text is None:
            return None
        return np.concatenate([of_text, np.zeros(self.vocab - len(of_text), np.int32)])

    def encode(self, text: bytes | str) -> list[int]:
        """The tokens of a text; <n> is a mark where there is one of that number."""
        found = list[int]()
        whole = text.encode() if isinstance(text, str) else text
        for i, part in enumerate(re.split(rb"<(\d{1,9})>", whole)):
            if i % 2 and int(part) < len(self.marks):
                found.append(self.marks[int(part)])
            else:
                found += self.words.encode(b"<%b>" % part if i % 2 else part)
        return found

    source = encode

    def exported(self) -> tuple[bytes, str]:
        """As that of the words, with the marks behind its tokens where it has none."""
        import tokenizers

        content, separator = self.words.exported()
        if self._is_own:
            return content, separator
        library = tokenizers.Tokenizer.from_str(content.decode())
        library.add_special_tokens([f"<{i}>" for i in range(len(self.marks))])
        return library.to_str(pretty=True).encode(), separator

    def beside(self) -> dict[str, bytes]:
        """The other files of that of the words."""
        found: dict[str, bytes] = self.words.beside() if self._is_own else {}
        return found

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text of some tokens."""
        parts, numbers = list[bytes](), {mark: i for i, mark in enumerate(self.marks)}
        for is_mark, part in itertools.groupby(ids, lambda i: i in numbers):
            listed = list(part)
            marks = [b"<%d>" % numbers[i] for i in listed if is_mark]
            parts.append(b"".join(marks) if is_mark else self.words.decode(listed))
        return b"".join(parts)


def _facts(data: DenoisingConfig, train: DenoisingConfig, root: Path) -> Facts:
    found = TEXT.facts(data, train, root)
    return dataclasses.replace(found, sizes={"vocab": _tokenizer(train, root).vocab})


def _tokenizer(data: DenoisingConfig, root: Path) -> MarkedText:
    return MarkedText(tokenizer(data, root), _counts(data)[1])


def _examples(data: DenoisingConfig, train: DenoisingConfig, split: str, root: Path) -> Denoising:
    noise, spans = _counts(data)
    words, windows = (
        MarkedText(tokenizer(train, root), spans),
        TEXT.examples(data, train, split, root),
    )
    assert isinstance(windows, Windows)
    return Denoising(windows, data.seq_len, noise, words.used, words.begins)


def _shapes(data: DenoisingConfig) -> dict[str, Shape]:
    noise, spans = _counts(data)
    source, target = data.seq_len - noise + spans, noise + spans + 1
    names = ("tokens", "targets", "positions", "target_bytes")
    return {
        **dict.fromkeys(("source", "source_segments"), ((source,), "int32")),
        **dict.fromkeys(names, ((target,), "int32")),
        "loss_mask": ((target,), "float32"),
    }


KIND = dataclasses.replace(
    TEXT,
    config=DenoisingConfig,
    fields=TEXT.fields | {"source", "source_segments"},
    asks=frozenset({"source"}),
    facts=_facts,
    examples=_examples,
    shapes=_shapes,
    tokenizer=_tokenizer,
    ranges=(*TEXT.ranges, (("share",), WITHIN), (("span",), AT_LEAST_ONE)),
)

__all__ = ["KIND", "DenoisingConfig", "MarkedText", "compositions"]
