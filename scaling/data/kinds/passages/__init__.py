"""Two passages of text in a row, of which the second follows on the first or is of anywhere else;
the unit is the token.

The documents, their tokens and their splits are those of `kinds/text`.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from scaling.config.contracts import Examples, Facts, Shape
from scaling.data import draws
from scaling.data.kinds.text import KIND as TEXT
from scaling.data.kinds.text import TextConfig


@dataclass(frozen=True)
class PassagesConfig(TextConfig):
    """Text, a window of it in two halves; each sees the other."""

    kind: Literal["passages"] = "passages"  # type: ignore[assignment]
    mask_documents: bool = False  # a window is of one text or two


_EVALUATED = draws.key("passages")  # of what is drawn where nothing changes from time to time


@dataclass(frozen=True)
class Passages:
    """The windows of a split, the second half of every other one exchanged."""

    windows: Examples
    length: int

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """`tokens`, `positions`, `token_types` (1 in the second half) int32, `token_mask` float32
        [B, L]; `follows` int32 and `weight` float32 [B]. By its key a row is as it is, or has the
        second half of another window of the split.
        """
        if keys is None:
            keys = draws.folded(_EVALUATED, indices)
        drawn, half = draws.bits(keys, 2), self.length // 2
        follows = (drawn[:, 0] & np.uint64(1)).astype(np.int32)
        apart = 1 + (drawn[:, 1] % np.uint64(max(1, len(self) - 1))).astype(np.int64)
        other = np.where(follows == 1, indices, (indices + apart) % len(self))
        ours, theirs = self.windows.take(indices), self.windows.take(other)
        second = np.arange(self.length, dtype=np.int32)[None] >= half
        return {
            "tokens": np.where(second, theirs["tokens"], ours["tokens"]),
            "positions": ours["positions"],
            "token_mask": ours["loss_mask"],
            "token_types": np.tile(second.astype(np.int32), (len(indices), 1)),
            "follows": follows,
            "weight": np.ones(len(indices), np.float32),
        }


def _facts(data: PassagesConfig, train: PassagesConfig, root: Path) -> Facts:
    found = TEXT.facts(data, train, root)
    return dataclasses.replace(found, sizes={**found.sizes, "passages": 1})


def _examples(data: PassagesConfig, train: PassagesConfig, split: str, root: Path) -> Passages:
    return Passages(TEXT.examples(data, train, split, root), data.seq_len)


def _shapes(data: PassagesConfig) -> dict[str, Shape]:
    tokens = dict.fromkeys(("tokens", "positions", "token_types"), ((data.seq_len,), "int32"))
    row: dict[str, Shape] = {"follows": ((), "int32"), "weight": ((), "float32")}
    return {**tokens, "token_mask": ((data.seq_len,), "float32"), **row}


KIND = dataclasses.replace(
    TEXT,
    config=PassagesConfig,
    fields=frozenset({"tokens", "positions", "token_mask", "token_types", "follows", "weight"}),
    weights=("token_mask", "weight"),
    facts=_facts,
    examples=_examples,
    shapes=_shapes,
    sizes=frozenset({"passages"}),
)

__all__ = ["KIND", "PassagesConfig"]
