"""Soft targets: what a teacher predicts, in the place of a part of what is true (Hinton et al.
2015, arXiv 1503.02531); and the teacher's last states, which the student's are drawn to.

Takes the loss of an objective that predicts classes or tokens, and outputs beside which those of a
teacher stand (`transforms/taught.py`); gives the loss towards both. Called by `objective.build`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.config import DistillConfig
from scaling.errors import ConfigError
from scaling.objectives.objective import Array, Batch, Loss, Rows
from scaling.objectives.predictions import logits_of

TEACHER = "teacher"  # key of the teacher's outputs among the student's, and of its parameters
MAPPED = "mapped"  # of the student's states, through the map, beside the teacher's ("states")
WRITTEN = "written"  # of the student's outputs where rows are its own text ("own", bool [B])
WEIGHT = "distill_weight"  # of the penalty; `programs.hparams` has it
FEATURES = "distill_features"  # likewise


def distilled(loss: Loss, config: DistillConfig, counts: str) -> Loss:
    """(1 - weight) of the loss plus weight T^2 times the divergence of teacher and student, both
    softened by the temperature T, plus what `features` weighs: as penalties, so that the weights
    are traced and the reported loss is the plain one.

    Of rows that the student wrote itself, what comes after the prompt counts, each row as much as
    the data's in its place (Agarwal et al. 2024, arXiv 2306.13649, algorithm 1).

    Args:
      counts: field of the batch that weighs the predictions of a row, [B] or [B, L].
    """

    def rows_of(outputs: Mapping[str, Any], batch: Batch) -> Rows:
        if loss.rows_of is None:
            raise ValueError("a loss of the model's outputs alone is needed")
        rows = loss.rows_of(outputs, batch)
        minimised: Any = rows.minimised
        with jax.named_scope(TEACHER):
            student, weight = outputs, batch[counts].astype(jnp.float32)
            if WRITTEN in outputs:
                student = outputs[WRITTEN]
                own_B = student["own"]
                weight = jnp.where(own_B[:, None], of_own(weight, config.prompt), weight)
            apart = divergence(
                outputs[TEACHER], student, config.temperature, config.divergence, config.beta
            )
            penalties = {WEIGHT: _counted(apart, weight) - minimised}
            if config.features:
                far = distance(outputs[MAPPED]["mapped"], outputs[MAPPED]["states"])
                penalties[FEATURES] = _counted(far, weight)
        return dataclasses.replace(rows, penalties=rows.penalties | penalties)

    weights = {**loss.weights, WEIGHT: config.weight}
    if config.features:
        weights[FEATURES] = config.features
    return dataclasses.replace(loss, rows_of=rows_of, weights=weights)


def _counted(x: Array, weight: Array) -> Array:
    """Sum of a row's predictions [B]; what stands in a place without weight has no part in
    anything, be it NaN.
    """
    counted = jnp.where(weight > 0, x * weight, 0)
    return counted.reshape(counted.shape[0], -1).sum(axis=1)


def prompt_of(prompt: int | None, length: int) -> int:
    """Tokens of a row of so many that are the data's, where the student writes the others. Raises
    ConfigError where none are left.
    """
    found = length // 2 if prompt is None else prompt
    if not 0 < found < length:
        raise ConfigError(
            f"distill.prompt={prompt} leaves nothing to write of a row of {length} tokens; give "
            "less"
        )
    return found


def of_own(weight_BxL: Array, prompt: int | None) -> Array:
    """Weights [B, L] of predictions of a text that the student wrote: of the tokens after the
    prompt alike, which together weigh what the data's row does.
    """
    length = weight_BxL.shape[1]
    first = prompt_of(prompt, length)
    place_L = jnp.arange(length)
    made_L = (place_L >= first - 1) & (place_L < length - 1)
    return weight_BxL.sum(axis=1, keepdims=True) * made_L[None] / (length - first)


def divergence(
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    temperature: float,
    kind: str = "forward",
    beta: float = 0.5,
) -> Array:
    """T^2 D(teacher, student) of each prediction, in nats; the teacher's is a constant.

    D is KL(teacher || student), "reverse" KL(student || teacher), or "jsd" (2306.13649, eq. 1)
    beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student.
    """
    of_teacher, of_student = (
        jax.nn.log_softmax(logits_of(outputs) / temperature) for outputs in (teacher, student)
    )
    of_teacher = jax.lax.stop_gradient(of_teacher)
    if kind == "forward":
        apart = _kl(of_teacher, of_student)
    elif kind == "reverse":
        apart = _kl(of_student, of_teacher)
    else:
        middle = jnp.logaddexp(of_teacher + jnp.log(beta), of_student + jnp.log1p(-beta))
        apart = beta * _kl(of_teacher, middle) + (1 - beta) * _kl(of_student, middle)
    return temperature**2 * apart


def _kl(one: Array, other: Array) -> Array:
    """Of log probabilities [..., classes]: [...]."""
    return (jnp.exp(one) * (one - other)).sum(axis=-1)


def distance(mapped: Array, states: Array) -> Array:
    """Squared distance of mapped states from a teacher's, which are constants, over their squares:
    of each prediction (Romero et al. 2015, arXiv 1412.6550, eq. 3, over the square).
    """
    theirs = jax.lax.stop_gradient(states.astype(jnp.float32))
    off = jnp.square(mapped.astype(jnp.float32) - theirs).sum(axis=-1)
    return off / jnp.maximum(jnp.square(theirs).sum(axis=-1), 1e-12)
