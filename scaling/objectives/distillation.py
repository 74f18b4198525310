"""Soft targets: what a teacher predicts, in the place of a part of what is true (Hinton et al.
2015, arXiv 1503.02531).

Takes the loss of an objective that predicts classes or tokens, and outputs beside which those of a
teacher stand (`transforms/taught.py`); gives the loss towards both. Called by `objective.build`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.config import DistillConfig
from scaling.objectives.objective import Array, Batch, Loss, Rows
from scaling.objectives.predictions import logits_of

TEACHER = "teacher"  # key of the teacher's outputs among the student's, and of its parameters
WEIGHT = "distill_weight"  # of the penalty; `programs.hparams` has it


def distilled(loss: Loss, config: DistillConfig, counts: str) -> Loss:
    """(1 - weight) of the loss plus weight T^2 KL(teacher || student), both softened by the
    temperature T: as a penalty, so that the weight is traced and the reported loss is the plain
    one.

    Args:
      counts: field of the batch that weighs the predictions of a row, [B] or [B, L].
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        if loss.rows_of is None:
            raise ValueError("a loss of the model's outputs alone is needed")
        rows = loss.rows_of(outputs, batch)
        with jax.named_scope(TEACHER):
            apart = divergence(outputs[TEACHER], outputs, config.temperature)
            weight = batch[counts].astype(jnp.float32)
            # What stands in a place without weight has no part in anything, be it NaN.
            soft = jnp.where(weight > 0, apart * weight, 0)
            soft_B = soft.reshape(soft.shape[0], -1).sum(axis=1)
        minimised: Any = rows.minimised
        return dataclasses.replace(rows, penalties=rows.penalties | {WEIGHT: soft_B - minimised})

    weights = {**loss.weights, WEIGHT: config.weight}
    return dataclasses.replace(loss, rows_of=rows_of, weights=weights)


def divergence(teacher: Mapping[str, Any], student: Mapping[str, Any], temperature: float) -> Array:
    """T^2 KL(teacher || student) of each prediction, in nats; the teacher's is a constant."""
    of_teacher, of_student = (
        jax.nn.log_softmax(logits_of(outputs) / temperature) for outputs in (teacher, student)
    )
    of_teacher = jax.lax.stop_gradient(of_teacher)
    apart = jnp.exp(of_teacher) * (of_teacher - of_student)
    return temperature**2 * apart.sum(axis=-1)
