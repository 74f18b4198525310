"""Next-token cross-entropy in nats, with bits per byte, accuracy and z-loss.

Takes a model's outputs (`hidden` [B, L, D], `head` [V, D]) and a batch with targets (int32),
loss_mask (0 or 1) and target_bytes (bytes that the target token stands for), each [B, L]; gives
`Rows`, float32.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.objectives.next_token.cross_entropy import (
    Scores,
    cross_entropy,
    logits,
    of_logits,
)
from scaling.objectives.next_token.fields import NextTokenConfig
from scaling.objectives.objective import Array, Batch, Loss, Rows, Sum

PENALTIES = ("z_loss", "load_balance", "router_z", "label_smoothing")


def next_token(config: NextTokenConfig) -> Loss:
    """Cross-entropy plus `z_loss` times log(Z)^2, where Z is the softmax normaliser.

    The z-loss (Chowdhery et al. 2022, PaLM, section 5) keeps logits from drifting. Of smoothed
    labels the cross-entropy is larger by `label_smoothing` times the distance of the target's logit
    from the mean of all. Both are part of what is minimised, not of the reported loss.
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        mask_BxL = batch["loss_mask"].astype(jnp.float32)
        with jax.named_scope("head"):
            scores = _scored(outputs, batch["targets"], config.chunk)
        nats_BxL = scores.log_z - scores.target

        def masked(x_BxL: Array) -> Array:
            return jnp.sum(x_BxL * mask_BxL, axis=1)

        tokens_B, loss_B, z_loss_B = mask_BxL.sum(axis=1), masked(nats_BxL), masked(scores.log_z**2)
        bytes_B = masked(batch["target_bytes"].astype(jnp.float32))
        sums = {
            "loss": Sum(loss_B, tokens_B),
            "bits_per_byte": Sum(loss_B / math.log(2), bytes_B),
            "accuracy": Sum(masked(scores.correct.astype(jnp.float32)), tokens_B),
            "z_loss": Sum(z_loss_B, tokens_B),
        }
        # What the blocks measure are means over a window's tokens: times those that count, a
        # window that is there to fill up the batch has no part in them.
        measured = {n: m_B * tokens_B for n, m_B in outputs.get("penalties", {}).items()}
        if config.label_smoothing:
            measured["label_smoothing"] = masked(scores.target - _mean_logits(outputs))
        sums |= {name: Sum(total_B, tokens_B) for name, total_B in measured.items()}
        return Rows(loss_B, measured | {"z_loss": z_loss_B}, sums)

    weights = {name: getattr(config, name) for name in PENALTIES}
    return Loss(rows_of, {name: weight for name, weight in weights.items() if weight})


def _scored(outputs: Mapping[str, Any], targets_BxL: Array, chunk: int | None) -> Scores:
    """Raises ConfigError for a chunk of logits that are mixed with others."""
    if "pointed" not in outputs:
        hidden, head = outputs["hidden"], outputs["head"]
        return cross_entropy(hidden, head, targets_BxL, outputs.get("softcap"), chunk)
    if chunk is not None:
        raise ConfigError(
            f"objective.chunk={chunk}: the logits of a model with a pointer exist all at once; "
            "leave it unset, or set model.pointer to False"
        )
    return of_logits(logits(outputs), targets_BxL)


def _mean_logits(outputs: Mapping[str, Any]) -> Array:
    """[B, L]: the mean over the vocabulary, without its logits. Raises ConfigError where these are
    capped, and so are not linear in the hidden state.
    """
    if outputs.get("softcap") is not None:
        raise ConfigError(
            "objective.label_smoothing needs logits that are not capped; set model.logit_softcap "
            "to None"
        )
    if "pointed" in outputs:
        return logits(outputs).mean(axis=-1)
    mean_D = outputs["head"].mean(axis=0)
    return jnp.einsum("BLD,D->BL", outputs["hidden"].astype(jnp.float32), mean_D)
