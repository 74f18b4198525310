"""Masked tokens, to be found from the others on both sides: cross-entropy in nats a masked token
(Devlin et al. 2019, arXiv 1810.04805, section 3.1). No jax here; `rows.py` computes.

Needs a family whose `masked` [B, M, D] and `table` [V + 1, D] make the logits of the tokens at the
batch's `places`, the table's last row being that which masks (or [V, D], where a token does), and a
batch with `tokens` int32 [B, L] and `loss_mask` [B, L] (0: a token that is none).
"""

from dataclasses import dataclass
from typing import Any, Literal

from scaling.config import contracts
from scaling.config.contracts import NOT_NEGATIVE, WITHIN, Metric
from scaling.config.contracts import SHARE as BETWEEN
from scaling.config.marks import added

SHARE = 0.15


@dataclass(frozen=True)
class MaskedTokensConfig:
    """Which tokens are hidden, and how (`scaling/objectives/masked_tokens`)."""

    name: Literal["masked_tokens"] = "masked_tokens"
    share: float = SHARE  # of a row's tokens, that are to be found
    masked: float = 0.8  # share of these that a masking token stands for
    random: float = 0.1  # share of these that any other token stands for; the rest stay
    mask_token: int | None = added(None)  # that which masks; None: the table's last row
    whole_words: bool = False  # all bytes of a word or none; a word is letters, digits and _


def count(share: float, length: int) -> int:
    """Tokens of a row of so many that are to be found."""
    return max(1, round(share * length))


def _of_bytes(config: Any) -> bool:
    return getattr(config.data, "tokenizer", "bytes") == "bytes"


OBJECTIVE = contracts.Objective(
    config=MaskedTokensConfig,
    rows="scaling.objectives.masked_tokens.rows:rows",
    outputs=frozenset({"masked", "table"}),
    fields=frozenset({"tokens", "loss_mask"}),
    metrics={
        "loss": Metric("loss", "nats/token", meaning="of masked tokens"),
        "accuracy": Metric("accuracy", better="higher", meaning="of masked tokens"),
    },
    ranges=((("share",), WITHIN), (("masked", "random"), BETWEEN), (("mask_token",), NOT_NEGATIVE)),
    idle=((("objective.whole_words",), _of_bytes, "data.tokenizer=bytes"),),
)
