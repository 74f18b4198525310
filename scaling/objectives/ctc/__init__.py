"""Transcripts without an alignment: minus the log-probability of all paths that write them, in nats
a token (Graves et al. 2006, Connectionist Temporal Classification). No jax here; `rows.py`
computes.

Needs a family that gives `frame_logits` [B, L, V], the last token of which is the blank, and
`frames` int32 [B], of which there are logits; and a batch with `transcript` int32 [B, T],
`transcript_length` int32 [B] and `weight` [B].
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config import contracts
from scaling.config.contracts import Metric


@dataclass(frozen=True)
class CTCConfig:
    """All alignments together (`scaling/objectives/ctc`)."""

    name: Literal["ctc"] = "ctc"


OBJECTIVE = contracts.Objective(
    config=CTCConfig,
    rows="scaling.objectives.ctc.rows:rows",
    outputs=frozenset({"frame_logits", "frames"}),
    fields=frozenset({"transcript", "transcript_length", "weight"}),
    metrics={"loss": Metric("loss", "nats/token")},
)
