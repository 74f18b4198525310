"""How wide and deep a transformer of so many parameters is, by rule of thumb.

The shapes of plans without a recipe (`Family.rule`). No jax in this file.
"""

import math
from collections.abc import Mapping
from typing import Any

from scaling.config.contracts import Rule
from scaling.families.transformer.fields import TransformerConfig

BYTES = 257  # vocabulary of a config that leaves it to its data: bytes and a separator


def shape(
    model: TransformerConfig, params: float, sizes: Mapping[str, float]
) -> tuple[dict[str, Any], int]:
    """See `Rule.shape`; the vocabulary is that of `sizes`, of the config, or of bytes."""
    vocab = int(sizes.get("vocab", model.vocab or BYTES))
    width, depth, count = shape_of(params, vocab)
    return {"model.width": width, "model.depth": depth, "model.heads": heads_of(width)}, count


def shape_of(params: float, vocab: int) -> tuple[int, int, int]:
    """Width, depth and params of the shape whose params are nearest to `params`."""
    best, gap = (0, 0, 0), math.inf
    for width in [*range(16, 64, 16), *range(64, 512, 32), *range(512, 20_001, 64)]:
        for depth in {max(1, round(width / 64 * f)) for f in (0.75, 1.0, 1.25)}:
            count = 12 * depth * width**2 + vocab * width
            if abs(math.log(count / params)) < gap:
                best, gap = (width, depth, count), abs(math.log(count / params))
    return best


def heads_of(width: int) -> int:
    """Heads of about 64 channels that divide the width into even parts."""
    wanted = range(max(1, width // 64), 0, -1)
    return next(h for h in wanted if width % h == 0 and (width // h) % 2 == 0)


RULE = Rule(
    "transformers of 12 depth width^2 + vocab width params, depth about width / 64, heads of about "
    "64 channels",
    shape,
)
