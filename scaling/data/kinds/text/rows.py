"""Texts as rows of tokens, for kinds of data whose examples are texts of their own: what stands
around them, how much of them there is room for, and which bytes each token stands for.

A tokenizer of others says itself what stands around a text or two (BERT's [CLS] a [SEP] b [SEP]);
else the separator stands before each. NumPy only. Called by those kinds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scaling.data.kinds.text.tokenizers import ByteTokenizer, Template, Tokenizer

_OF_NONE = -1  # the text of a token that stands around them


class TokenRow(NamedTuple):
    """One row of tokens; int64 [L] each, L tokens at most."""

    tokens: np.ndarray
    starts: np.ndarray  # first byte, of its text, that each stands for
    ends: np.ndarray  # the one behind the last
    texts: np.ndarray  # number of its text, -1: it stands around them
    types: np.ndarray  # token type

    def found(self, text: int, first: int, last: int) -> tuple[int, int] | None:
        """Places of the first and the last token of some bytes of a text; None: there are none, or
        the row ends before.
        """
        (places,) = (self.texts == text).nonzero()
        starts, ends = self.starts[places], np.maximum.accumulate(self.ends[places])
        begin, end = np.searchsorted(ends, first, "right"), np.searchsorted(starts, last, "right")
        if not begin < end or ends[-1] <= last:
            return None
        return int(places[begin]), int(places[end - 1])


@dataclass(frozen=True)
class Rows:
    """Rows of at most `length` tokens, of one text or two each; what is longer loses the end of its
    last text.
    """

    tokenizer: Tokenizer
    length: int

    @property
    def key(self) -> Any:
        """What decides how texts are cut, as JSON."""
        identity = self.tokenizer.identity
        return self.length if identity == ByteTokenizer.identity else [self.length, identity]

    def ends(self, text: bytes) -> np.ndarray:
        """The byte behind each token of a text, in order: int64."""
        (found,) = self.tokenizer.located([text])
        return np.maximum.accumulate(found[2])

    def cut(self, text: bytes, *before: bytes) -> bytes:
        """What there is room for of a text, behind others in its row."""
        room = self.room(*before)
        if len(text) <= room or len(ends := self.ends(text)) <= room:
            return text
        return text[: ends[room - 1]] if room else b""

    def room(self, *before: bytes) -> int:
        """Tokens that a text may have behind others."""
        around = self._around(len(before) + 1)
        taken = sum(len(self.ends(text)) for text in before)
        return max(0, self.length - sum(token is not None for token, _ in around) - taken)

    def row(self, *texts: bytes) -> TokenRow:
        """Of these."""
        return next(self.rows([texts]))

    def rows(self, texts: Sequence[Sequence[bytes]]) -> Iterator[TokenRow]:
        """Of as many in each row."""
        located = self.tokenizer.located([text for row in texts for text in row])
        for row in texts:
            around, parts = self._around(len(row)), [next(located) for _ in row]
            over = sum(map(len, (around, *(part[0] for part in parts)))) - len(row) - self.length
            if over > 0:
                parts[-1] = parts[-1][:, : max(0, parts[-1].shape[1] - over)]
            yield self._joined(around, parts)

    def _joined(self, around: Template, parts: Sequence[np.ndarray]) -> TokenRow:
        columns, number = list[np.ndarray](), 0
        for token, kind in around:
            if token is not None:
                columns.append(np.array([[token], [0], [0], [_OF_NONE], [kind]]))
                continue
            said = np.empty((5, parts[number].shape[1]), np.int64)
            said[:3], said[3], said[4] = parts[number], number, kind
            columns.append(said)
            number += 1
        return TokenRow(*np.concatenate(columns, axis=1)[:, : self.length])

    def _around(self, texts: int) -> Template:
        own = self.tokenizer.template(texts)
        if own is not None:
            return own
        return tuple(
            one for i in range(texts) for one in ((self.tokenizer.separator, i), (None, i))
        )
