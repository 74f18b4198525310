"""The config of next-token prediction. No jax in this file."""

from dataclasses import dataclass
from typing import Literal

from scaling.config.marks import execution, traced


@dataclass(frozen=True)
class NextTokenConfig:
    """Cross-entropy of the next token, and penalties (`rows.py`)."""

    name: Literal["next_token"] = "next_token"
    z_loss: float = traced(
        0.0, common=1.0, off=0.0
    )  # weight of mean(log Z ^ 2), pulls the softmax normaliser to 1
    load_balance: float = traced(
        0.0, common=1.0, off=0.0
    )  # weight of the experts' load balance loss
    router_z: float = traced(0.0, common=1.0, off=0.0)  # weight of mean(log Z ^ 2) of the router
    # share of the target that lies on all of the vocabulary alike (Szegedy et al. 2016, section 7);
    # not of the reported loss
    label_smoothing: float = traced(0.0, common=1.0, off=0.0, added=True)
    chunk: int | None = execution(
        None
    )  # tokens whose logits exist at a time; None: by the vocabulary
