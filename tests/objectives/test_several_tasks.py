"""Several objectives at once: each row has its own task's mean, weighed by uncertainty."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import choices
from scaling.objectives.multitask import OBJECTIVE, MultitaskConfig
from scaling.objectives.objective import Sum

RNG = np.random.default_rng(0)
ROWS, LENGTH = 6, 5
TASK = np.array([0, 1, 2, 0, 1, 2], np.int32)
OUTPUTS: dict[str, Any] = {
    "out": RNG.normal(size=(ROWS, 3)).astype(np.float32),
    "tags": RNG.normal(size=(ROWS, LENGTH, 4)).astype(np.float32),
    "spans": RNG.normal(size=(ROWS, LENGTH, 2)).astype(np.float32),
}
MASK = (RNG.random((ROWS, LENGTH)) < 0.7) & (TASK == 1)[:, None]
BATCH: dict[str, Any] = {
    "task": TASK,
    "label": np.array([2, 0, 0, 1, 0, 0], np.int32),
    "label_weight": (TASK == 0).astype(np.float32),
    "tags": RNG.integers(0, 4, (ROWS, LENGTH)).astype(np.int32),
    "tags_weight": MASK.astype(np.float32),
    "start": np.full(ROWS, 1, np.int32),
    "end": np.full(ROWS, 3, np.int32),
    "answerable": np.ones((ROWS, LENGTH), np.float32),
    "answer_weight": np.array([0, 0, 1, 0, 0, 0], np.float32),  # the last row fills up
    "token_weight": np.zeros((ROWS, LENGTH), np.float32),
}


def rows(**more: Any) -> Any:
    loss = choices.load(OBJECTIVE.rows)(MultitaskConfig())
    batch = {name: jnp.asarray(x) for name, x in BATCH.items()}
    outputs = {name: jnp.asarray(x) for name, x in (OUTPUTS | more).items()}
    return loss.rows_by(lambda fields: outputs, batch, None, {})


def test_a_row_has_the_mean_of_what_is_predicted_in_it():
    found = rows()
    log_p = {n: np.float64(jax.nn.log_softmax(x, axis=-1)) for n, x in OUTPUTS.items()}
    tags = -np.take_along_axis(log_p["tags"], BATCH["tags"][..., None], axis=2)[..., 0]
    ends = np.float64(jax.nn.log_softmax(OUTPUTS["spans"], axis=1))
    expected = np.zeros(ROWS)
    for i in (0, 3):
        expected[i] = -log_p["out"][i, BATCH["label"][i]]
    for i in (1, 4):
        expected[i] = tags[i][MASK[i]].mean()
    expected[2] = -(ends[2, 1, 0] + ends[2, 3, 1]) / 2
    np.testing.assert_allclose(found.minimised, expected, rtol=1e-5)
    loss, right = found.sums["loss"], found.sums["accuracy"]
    assert isinstance(loss, Sum)
    np.testing.assert_array_equal(loss.count, [1, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(loss.total, expected, rtol=1e-5)
    said = OUTPUTS["tags"].argmax(axis=2) == BATCH["tags"]
    assert right.total[1] == pytest.approx(said[1][MASK[1]].mean(), rel=1e-5)
    assert right.total[0] == float(OUTPUTS["out"][0].argmax() == 2)


def test_uncertain_tasks_weigh_less_and_pay_for_it():
    """exp(-s) L + s / 2 of Kendall et al., smallest where exp(s) is twice the loss."""
    s = np.array([0.3, -0.7, 1.2], np.float32)
    plain, weighed = rows(), rows(log_variances=s)
    there = np.array([1, 1, 1, 1, 1, 0])
    expected = (np.exp(-s[TASK]) * plain.minimised + s[TASK] / 2) * there
    np.testing.assert_allclose(weighed.minimised, expected, rtol=1e-5)
    np.testing.assert_array_equal(weighed.sums["loss"].total, plain.sums["loss"].total)
    best = np.log(2 * np.float32(plain.minimised[2]))
    slope = jax.grad(lambda v: rows(log_variances=v).minimised[2])(jnp.array([0.0, 0.0, best]))
    np.testing.assert_allclose(slope, 0, atol=1e-6)
