"""Tagging and spans against plain loops over their rows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from scaling.metrics import agreement
from scaling.objectives.spans import SpansConfig
from scaling.objectives.spans.rows import rows as spans
from scaling.objectives.tagging import TaggingConfig
from scaling.objectives.tagging.rows import rows as tagging

RNG = np.random.default_rng(0)


def test_tags_are_measured_where_there_is_one():
    logits, tags = RNG.normal(size=(3, 5, 4)), RNG.integers(0, 4, (3, 5))
    mask = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.float32)
    batch = {"tags": jnp.array(tags), "tag_mask": jnp.array(mask)}
    found = tagging(TaggingConfig()).rows_of({"tags": jnp.array(logits)}, batch)
    log_p, said = np.asarray(jax.nn.log_softmax(logits)), logits.argmax(axis=-1)
    for row in range(3):
        (places,) = mask[row].nonzero()
        nats = -sum(log_p[row, i, tags[row, i]] for i in places)
        np.testing.assert_allclose(found.minimised[row], nats, rtol=1e-5)
        assert found.sums["accuracy"].total[row] == sum(
            said[row, i] == tags[row, i] for i in places
        )
    whole = np.asarray(found.sums["macro_f1"], np.float64).sum(axis=0)
    scores = []
    for tag in set(tags[mask > 0].tolist()):
        true, told = (tags == tag) & (mask > 0), (said == tag) & (mask > 0)
        scores.append(2 * (true & told).sum() / (true.sum() + told.sum()))
    np.testing.assert_allclose(agreement.macro_f1(whole), np.mean(scores))


def test_the_best_span_and_its_scores():
    logits = RNG.normal(size=(6, 7, 2)).astype(np.float32)
    logits[3, 0] = 9.0  # of a place that is none
    there = np.ones((6, 7), np.float32)
    there[:, :2] = 0
    start = np.array([2, 3, 2, 4, 6, 5], np.int32)
    end = np.array([4, 3, 6, 5, 6, 6], np.int32)
    fields = {
        "start": start,
        "end": end,
        "answerable": there,
        "weight": np.array([1, 1, 1, 1, 1, 0]),
    }
    batch = {name: jnp.array(x) for name, x in fields.items()}
    found = spans(SpansConfig()).rows_of({"spans": jnp.array(logits)}, batch)
    log_p = np.asarray(jax.nn.log_softmax(logits[:, 2:], axis=1))
    for row in range(5):
        pairs = [(a, b) for a, b in itertools.product(range(2, 7), repeat=2) if a <= b]
        said = max(pairs, key=lambda ab: logits[row, ab[0], 0] + logits[row, ab[1], 1])
        true = (start[row], end[row])
        nats = -(log_p[row, true[0] - 2, 0] + log_p[row, true[1] - 2, 1]) / 2
        np.testing.assert_allclose(found.minimised[row], nats, rtol=1e-5)
        places = [set(range(a, b + 1)) for a, b in (said, true)]
        f1 = 2 * len(places[0] & places[1]) / sum(map(len, places))
        np.testing.assert_allclose(found.sums["f1"][row], [f1, 1], rtol=1e-6)
        np.testing.assert_array_equal(found.sums["exact_match"][row], [said == true, 1])
    np.testing.assert_array_equal(found.sums["f1"][5], [0, 0])
