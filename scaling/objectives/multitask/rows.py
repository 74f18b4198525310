"""What several objectives make of rows that are each of one of their tasks.

Takes a model as a function, a batch of the kind of several tasks and a key for each row; gives
`Rows`, float32. The objectives are those of the tasks alone, at their defaults.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.config import choices
from scaling.objectives.masked_tokens import MaskedTokensConfig
from scaling.objectives.masked_tokens.rows import masked
from scaling.objectives.multitask import MultitaskConfig
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

# Output of a head -> its objective, the field that weighs it there and here, what is right of it.
_TASKS = {
    "out": ("classification", "weight", "label_weight", "accuracy"),
    "tags": ("tagging", "tag_mask", "tags_weight", "accuracy"),
    "spans": ("spans", "weight", "answer_weight", "exact_match"),
}


def rows(config: MultitaskConfig) -> Loss:
    """Of each row the mean over what is predicted in it, in nats, so that tasks weigh alike,
    whatever they predict.

    With log variances s of the tasks it is exp(-s) times that, plus s / 2 (Kendall, Gal and Cipolla
    2018, arXiv 1705.07115, equation 10 with s = log of sigma squared); the reported loss is without
    them.
    """
    del config
    alone = {name: _objective(name) for name, *_ in _TASKS.values()}

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        del hparams
        found = list[tuple[Sum, Any]]()
        if "table" in jax.eval_shape(model, batch):
            hidden = {**batch, "loss_mask": batch["token_weight"]}
            of_tokens, outputs = masked(MaskedTokensConfig(), model, hidden, keys_B)
            found.append(_of(of_tokens, "accuracy"))
        else:
            outputs = model(batch)
        for output, (name, theirs, ours, right) in _TASKS.items():
            if output in outputs:
                rows_of = alone[name].rows_of
                assert rows_of is not None
                found.append(_of(rows_of(outputs, {**batch, theirs: batch[ours]}), right))
        loss_B, there_B = _mean([loss for loss, _ in found])
        right_B, _ = _mean([right for _, right in found])
        minimised_B = loss_B
        if "log_variances" in outputs:
            s_B = outputs["log_variances"].astype(jnp.float32)[batch["task"]]
            minimised_B = (jnp.exp(-s_B) * loss_B + s_B / 2) * there_B
        sums = {"loss": Sum(loss_B, there_B), "accuracy": Sum(right_B, there_B)}
        return Rows(minimised_B, {}, sums)

    return Loss(None, rows_by=rows_by)


def _objective(name: str) -> Loss:
    record = choices.record("objective", name)
    loss: Loss = choices.load(record.rows)(record.config())
    return loss


def _of(rows: Rows, right: str) -> tuple[Sum, Sum]:
    """(loss, what is right) of each row."""
    loss, other = rows.sums["loss"], rows.sums[right]
    assert isinstance(loss, Sum)
    return loss, other if isinstance(other, Sum) else Sum(other[:, 0], other[:, 1])


def _mean(of_tasks: list[Sum]) -> tuple[Array, Array]:
    """[B] each: the mean of a row, by whichever task it is of; whether it counts, 1 or 0."""
    mean_B, there_B = jnp.float32(0.0), jnp.float32(0.0)
    for one in of_tasks:
        counts_B = one.count > 0
        mean_B += jnp.where(counts_B, one.total / jnp.where(counts_B, one.count, 1), 0)
        there_B = jnp.maximum(there_B, counts_B)
    return mean_B, there_B
