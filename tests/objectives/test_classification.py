"""Cross-entropy of labels: by NumPy, under any split, and differentiated as it says."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import choices
from scaling.metrics.finish import finish
from scaling.objectives.classification import OBJECTIVE, ClassificationConfig
from scaling.objectives.objective import Sum

ROWS, CLASSES = 9, 5
RNG = np.random.default_rng(0)
OUT = jnp.asarray(2 * RNG.normal(size=(ROWS, CLASSES)), jnp.float32)
WEIGHT = jnp.asarray([1, 1, 0, 1, 1, 1, 0, 1, 1], jnp.float32)
BATCH = {"label": jnp.asarray(RNG.integers(0, CLASSES, size=ROWS)), "weight": WEIGHT}


class Fixed(nn.Module):
    """A model whose parameters are its outputs."""

    @nn.compact
    def __call__(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        shape = (len(batch["label"]), CLASSES)
        return {"out": self.param("out", nn.initializers.zeros, shape, jnp.float32)}


def build(**config):
    return choices.load(OBJECTIVE.rows)(ClassificationConfig(**config))


def loss(out, batch=BATCH, **config):
    return build(**config).loss(Fixed(), {"out": out}, batch, jax.random.key(0))


def numbers(out, batch=BATCH) -> dict[str, float]:
    """As an evaluation finishes them."""
    rows = {
        name: np.stack([s.total, s.count], axis=1) if isinstance(s, Sum) else np.asarray(s)
        for name, s in build().rows_of({"out": out}, batch).sums.items()
    }
    return finish(rows, OBJECTIVE.metrics)


def test_the_record_is_what_the_rows_give():
    rows = build().rows_of({"out": OUT}, BATCH)
    assert list(rows.sums) == list(OBJECTIVE.metrics)
    assert next(iter(OBJECTIVE.metrics)) == "loss"
    for name, metric in OBJECTIVE.metrics.items():
        assert isinstance(rows.sums[name], Sum) == (metric.finish is None)
    assert all(leaf.shape[0] == ROWS for leaf in jax.tree.leaves(rows))


def test_numbers_are_their_definitions():
    used = np.asarray(WEIGHT) > 0
    out, label = np.asarray(OUT, np.float64)[used], np.asarray(BATCH["label"])[used]
    p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    found = numbers(OUT)
    nats = -np.log(p[np.arange(len(label)), label])
    assert found["loss"] == pytest.approx(nats.mean(), rel=1e-5)
    spread = np.std(nats, ddof=1) / math.sqrt(len(nats))
    assert found["loss_se"] == pytest.approx(spread, rel=1e-4)
    right = p.argmax(axis=1) == label
    assert found["accuracy"] == pytest.approx(right.mean(), rel=1e-6)
    brier = np.sum((p - np.eye(CLASSES)[label]) ** 2, axis=1).mean()
    assert found["brier"] == pytest.approx(brier, rel=1e-5)
    bins = np.ceil(p.max(axis=1) * 15)
    gaps = [np.sum(p.max(axis=1)[bins == b] - right[bins == b]) for b in np.unique(bins)]
    wanted = np.abs(gaps).sum() / len(label)
    assert found["calibration_error"] == pytest.approx(wanted, rel=1e-5)
    assert found["calibration_error_se"] > 0


def test_even_logits_cost_log_classes_and_are_right_for_one_of_them():
    even = {"label": jnp.arange(CLASSES), "weight": jnp.ones(CLASSES)}
    found = numbers(jnp.zeros((CLASSES, CLASSES)), even)
    assert found["loss"] == pytest.approx(math.log(CLASSES), rel=1e-6)
    assert found["accuracy"] == pytest.approx(1 / CLASSES)
    assert found["calibration_error"] == pytest.approx(0, abs=1e-6)
    assert found["brier"] == pytest.approx(1 - 1 / CLASSES, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_what_is_minimised_is_the_cross_entropy_towards_smoothed_labels(smoothing):
    def smoothed(out):
        target = (1 - smoothing) * jax.nn.one_hot(BATCH["label"], CLASSES) + smoothing / CLASSES
        return -jnp.sum(target * jax.nn.log_softmax(out) * WEIGHT[:, None])

    (minimised, sums), gradient = jax.value_and_grad(
        lambda out: loss(out, label_smoothing=smoothing), has_aux=True
    )(OUT)
    wanted, wanted_gradient = jax.value_and_grad(smoothed)(OUT)
    np.testing.assert_allclose(minimised, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-4, atol=1e-6)
    # The loss that is reported is of the labels themselves.
    np.testing.assert_array_equal(sums["loss"].total, loss(OUT)[1]["loss"].total)


def test_the_smoothing_is_a_traced_weight():
    traced = {"label_smoothing": jnp.float32(0.3)}
    objective = build(label_smoothing=0.1)
    found, _ = objective.loss(Fixed(), {"out": OUT}, BATCH, jax.random.key(0), traced)
    np.testing.assert_allclose(found, loss(OUT, label_smoothing=0.3)[0], rtol=1e-6)
    assert build().weights == {}


def test_training_carries_means_only():
    sums = loss(OUT)[1]
    assert set(sums) == {"loss", "accuracy", "brier"}
    assert all(leaf.shape == () for leaf in jax.tree.leaves(sums))


def test_rows_without_weight_change_nothing_whatever_stands_in_them():
    lost = OUT.at[WEIGHT == 0].set(jnp.nan)
    batch = BATCH | {"label": jnp.where(WEIGHT > 0, BATCH["label"], -1)}
    assert numbers(lost, batch) == numbers(OUT)
    gradients = [
        jax.grad(lambda out, b=b: loss(out, b, label_smoothing=0.1)[0])(out)
        for out, b in ((lost, batch), (OUT, BATCH))
    ]
    np.testing.assert_array_equal(*gradients)
    assert not gradients[0][WEIGHT == 0].any()
    kept = np.asarray(WEIGHT) > 0
    alone = numbers(OUT[kept], {name: x[kept] for name, x in BATCH.items()})
    assert alone == pytest.approx(numbers(OUT), rel=1e-5)  # padding is added as zeros


@pytest.mark.slow
def test_pieces_add_up_to_the_batch():
    whole, sums = loss(OUT, label_smoothing=0.1)
    pieces = [
        loss(OUT[cut], {name: x[cut] for name, x in BATCH.items()}, label_smoothing=0.1)
        for cut in (slice(0, 3), slice(3, 4), slice(4, 9))
    ]
    np.testing.assert_allclose(sum(p[0] for p in pieces), whole, rtol=1e-6)
    added = jax.tree.map(lambda *x: sum(x), *(p[1] for p in pieces))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), added, sums)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_nan_not_a_number_of_its_own(label):
    batch = BATCH | {"label": BATCH["label"].at[0].set(label)}
    assert math.isnan(numbers(OUT, batch)["loss"])


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_logits_far_from_zero_give_finite_numbers(shift):
    found = numbers(OUT + shift)
    assert all(np.isfinite(list(found.values())))
    # float32 logits near 1e4 are a thousandth apart.
    assert found["loss"] == pytest.approx(numbers(OUT)["loss"], abs=2e-3)
