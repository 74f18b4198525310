"""The table of a convolutional network: a string, a row for each stage, as papers print it.

    plain c32 s2, c16 e1, c24 n2 s2 e6, c32 n3 s2 e6, plain c1280 k1

A row is the name of its block (left out: the model's) and, in any order, a letter and a number: `c`
channels made, `n` blocks of the row, `s` stride of the first of them, `k` side of the kernel, `e`
channels inside a block over those it reads, `q` channels of a block's input over the hidden ones of
its squeeze. The first row is the stem. Beside the blocks (`blocks.py`) there are `patches`, a plain
row with nothing behind its norm whose kernel is its stride, and `pool`, which takes the largest of
k x k places. Read without jax; called by the record and the network.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from scaling.errors import ConfigError

# Blocks of a row, with the kernel, stride and expansion of rows that do not say theirs.
_USUAL: dict[str, dict[str, int]] = {
    "plain": {"k": 3},
    "patches": {"k": 2},
    "pool": {"k": 3, "s": 2},
    "dense": {"k": 3, "e": 4},
    "inception": {"k": 5},
    "inverted": {"k": 3, "e": 6},
    "mbconv": {"k": 3, "e": 6, "q": 4},
    "shuffle": {"k": 3},
    "convnext": {"k": 7, "e": 4},
}
_EXAMPLE = "plain c16, c16 n2, c32 n2 s2"
# Of an inception block that gives one number of channels: those of its branches, in sixteenths of
# it (Szegedy et al. 2015, arXiv 1409.4842, table 1, row 3a, whose numbers these are of 256).
_INCEPTION = (4, 6, 8, 1, 2, 2)
# Small networks for images of 8 to 32 pixels: width 16, halved twice.
SMALL = {
    "plain": "plain c16, c16, c32 s2, c64 s2",
    "dense": "plain c16, c8 n2, c8 n2 s2, c8 n2 s2",
    "inception": "plain c16, c32, pool, c64, pool, c128",
    "inverted": "plain c16, c16 e4, c32 s2 e4, c64 s2 e4",
    "mbconv": "plain c16, c16 e4, c32 s2 e4, c64 s2 e4",
    "shuffle": "plain c16, c32 n2 s2, c64 n2 s2, plain c64 k1",
    "convnext": "patches c16 k2, c16 k3, c32 k3 s2, c64 k3 s2",
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    block: str
    channels: tuple[int, ...] = ()  # one; six of an inception block
    repeats: int = 1
    stride: int = 1
    kernel: int = 3
    expansion: int = 1
    squeeze: int | None = None  # of mbconv
    own: bool = False  # it names its block, so that the model's depth says nothing of it


def read(config: Any) -> tuple[Row, ...]:
    """The rows of a config as its table has them. Raises ConfigError."""
    text = config.stages or SMALL[config.block]
    rows = tuple(_row(part.split(), config.block, text) for part in text.split(","))
    first = rows[0]
    if first.block not in ("plain", "patches") or first.repeats > 1:
        raise ConfigError(
            f"model.stages={text!r} must begin with its stem, a row of one plain or patches, as in "
            f"{_EXAMPLE!r}"
        )
    return rows


def rows(config: Any) -> tuple[Row, ...]:
    """The rows of the network that a config is: channels in proportion to `width` over the stem's,
    rounded to multiples where that is another; `depth` times the blocks of rows without a name.
    """
    found = read(config)
    factor = config.width / found[0].channels[0]

    def of(row: Row) -> Row:
        channels = row.channels
        if factor != 1:
            channels = tuple(rounded(c * factor, config.multiple) for c in channels)
        repeats = row.repeats * (1 if row.own else config.depth)
        return dataclasses.replace(row, channels=channels, repeats=repeats)

    stem = dataclasses.replace(found[0], channels=(config.width,))
    return stem, *map(of, found[1:])


def rounded(channels: float, multiple: int) -> int:
    """The nearest multiple, but no less than one and than 0.9 of the channels (as the code of
    Sandler et al. 2018, arXiv 1801.04381, has it).
    """
    found = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return found + multiple if found < 0.9 * channels else found


def branches(channels: tuple[int, ...]) -> tuple[int, ...]:
    """The six numbers of an inception block (`blocks.Inception`)."""
    if len(channels) == 6:
        return channels
    return tuple(max(1, channels[0] * part // 16) for part in _INCEPTION)


def grown(config: Any, width: float, depth: float) -> dict[str, Any]:
    """Overrides of a model whose table has `width` times the channels, rounded to multiples of 8,
    and `depth` times the blocks of each row without a name, rounded up: of a network that is given
    by another's table (Tan and Le 2019, arXiv 1905.11946, as its code rounds).
    """
    found = [
        dataclasses.replace(
            row,
            channels=tuple(rounded(c * width, 8) for c in row.channels),
            repeats=row.repeats if row.own else math.ceil(depth * row.repeats),
        )
        for row in rows(config)
    ]
    return {
        "model.width": found[0].channels[0],
        "model.depth": 1,
        "model.stages": ", ".join(map(written, found)),
    }


def written(row: Row) -> str:
    """A row as the table has it."""
    letters = {
        "c": ".".join(map(str, row.channels)),
        "n": row.repeats,
        "s": row.stride,
        "k": row.kernel,
        "e": row.expansion,
        "q": row.squeeze,
    }
    plain = {"c": "", "n": 1, "s": 1, "e": 1, "q": None} | _usual(row.block, row.kernel)
    said = [f"{name}{value}" for name, value in letters.items() if value != plain.get(name)]
    return " ".join([*([row.block] if row.own else []), *said])


def _row(words: list[str], block: str, text: str) -> Row:
    own = bool(words) and words[0] in _USUAL
    name = words[0] if own else block
    values: dict[str, str] = {}
    for word in words[own:]:
        found = re.fullmatch(r"([cnskeq])([1-9][0-9]*(?:\.[1-9][0-9]*)*)", word)
        if found is None or found[1] in values or ("." in word and found[1] != "c"):
            raise ConfigError(
                f"model.stages={text!r}: {word!r} is no block and no number of a row; write "
                f"{_EXAMPLE!r}"
            )
        values[found[1]] = found[2]
    numbers = {name: int(values[name]) for name in "nskeq" if name in values}
    channels = tuple(int(c) for c in values.get("c", "").split(".") if c)
    if len(channels) not in _counts(name):
        raise ConfigError(
            f"model.stages={text!r}: a row of {name} has {' or '.join(map(str, _counts(name)))} "
            f"numbers of channels, as in {_EXAMPLE!r}; {' '.join(words)!r} has {len(channels)}"
        )
    if "q" in numbers and name != "mbconv":
        raise ConfigError(f"model.stages={text!r}: only rows of mbconv have a squeeze, q")
    numbers = _usual(name, numbers.get("k")) | numbers
    repeats, stride, kernel, expansion = (numbers.get(letter, 1) for letter in "nske")
    squeeze = numbers.get("q")
    return Row(name, channels, repeats, stride, kernel, expansion, squeeze, own)


def _usual(block: str, kernel: int | None) -> dict[str, int]:
    """What a row that does not say it has."""
    usual = _USUAL[block]
    return usual | {"s": kernel or usual["k"]} if block == "patches" else usual


def _counts(block: str) -> tuple[int, ...]:
    return {"pool": (0,), "inception": (1, 6)}.get(block, (1,))
