"""Sums and counts of the next-token loss: exact under any split of the batch, and differentiated
as they say.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.objectives import objective as objective_lib
from scaling.objectives.next_token import NextTokenConfig

ROWS, LENGTH, VOCAB = 6, 5, 7
KEYS = jax.random.split(jax.random.key(0), 3)
BATCH = {
    "targets": jax.random.randint(KEYS[0], (ROWS, LENGTH), 0, VOCAB),
    # Row 0 counts in full, row 5 not at all.
    "loss_mask": (jnp.arange(LENGTH)[None] < (LENGTH - jnp.arange(ROWS))[:, None]).astype(float),
    "target_bytes": jax.random.randint(KEYS[1], (ROWS, LENGTH), 1, 9),
}
LOGITS = 3 * jax.random.normal(KEYS[2], (ROWS, LENGTH, VOCAB))


class Fixed(nn.Module):
    """A model whose parameters are its logits: the output matrix is the identity."""

    @nn.compact
    def __call__(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        init = nn.initializers.zeros
        logits = self.param("logits", init, (*batch["targets"].shape, VOCAB), jnp.float32)
        return {"hidden": logits, "head": jnp.eye(VOCAB)}


def loss(logits, batch=BATCH, **config):
    objective = objective_lib.build(NextTokenConfig(**config))
    return objective.loss(Fixed(), {"logits": logits}, batch, jax.random.key(0))


def test_sums_are_their_definitions():
    minimised, sums = loss(LOGITS)
    logits, mask = np.asarray(LOGITS, np.float64), np.asarray(BATCH["loss_mask"], bool)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    targets = np.asarray(BATCH["targets"])
    nats = -np.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    assert float(sums["loss"].count) == mask.sum() == 15
    np.testing.assert_allclose(sums["loss"].total, nats[mask].sum(), rtol=1e-5)
    np.testing.assert_allclose(minimised, nats[mask].sum(), rtol=1e-5)
    bits = nats[mask].sum() / math.log(2) / np.asarray(BATCH["target_bytes"])[mask].sum()
    np.testing.assert_allclose(sums["bits_per_byte"].mean, bits, rtol=1e-5)
    accuracy = (logits.argmax(axis=-1) == targets)[mask].mean()
    np.testing.assert_allclose(sums["accuracy"].mean, accuracy, rtol=1e-6)


def test_uniform_logits_cost_log_vocabulary():
    _, sums = loss(jnp.zeros_like(LOGITS))
    np.testing.assert_allclose(sums["loss"].mean, math.log(VOCAB), rtol=1e-6)


@pytest.mark.slow
def test_rows_and_pieces_add_up_to_the_batch():
    objective = objective_lib.build(NextTokenConfig())
    _, whole = loss(LOGITS)
    rows = objective.rows(Fixed(), {"logits": LOGITS}, BATCH)
    assert all(leaf.shape == (ROWS,) for leaf in jax.tree.leaves(rows))
    pieces = [
        loss(LOGITS[piece], {name: x[piece] for name, x in BATCH.items()})[1]
        for piece in (slice(0, 1), slice(1, 6))
    ]
    for name, wanted in whole.items():
        for total, count in (
            (rows[name].total.sum(), rows[name].count.sum()),
            (sum(p[name].total for p in pieces), sum(p[name].count for p in pieces)),
        ):
            np.testing.assert_allclose(total, wanted.total, rtol=1e-6)
            assert count == wanted.count


def test_the_gradient_is_softmax_minus_target_where_the_mask_is_1():
    gradient = jax.grad(lambda logits: loss(logits)[0])(LOGITS)
    wanted = jax.nn.softmax(LOGITS) - jax.nn.one_hot(BATCH["targets"], VOCAB)
    np.testing.assert_allclose(gradient, wanted * BATCH["loss_mask"][..., None], atol=1e-6)


def test_the_z_loss_is_in_the_gradient_and_not_in_the_loss():
    weight = 0.1
    minimised, sums = loss(LOGITS, z_loss=weight)
    plain, plain_sums = loss(LOGITS)
    log_z = jax.nn.logsumexp(LOGITS, axis=-1)
    mask = BATCH["loss_mask"]
    np.testing.assert_allclose(sums["loss"].total, plain_sums["loss"].total)
    np.testing.assert_allclose(sums["z_loss"].total, (log_z**2 * mask).sum(), rtol=1e-5)
    np.testing.assert_allclose(minimised, plain + weight * sums["z_loss"].total, rtol=1e-6)
    extra = jax.grad(lambda x: loss(x, z_loss=weight)[0] - loss(x)[0])(LOGITS)
    wanted = weight * 2 * (log_z * mask)[..., None] * jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(extra, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_logits_far_from_zero_give_finite_sums(shift):
    _, sums = loss(LOGITS + shift, z_loss=1e-4)
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(sums))
    np.testing.assert_allclose(sums["loss"].total, loss(LOGITS)[1]["loss"].total, rtol=1e-2)


def test_smoothed_labels_are_the_cross_entropy_of_a_mixture():
    share = 0.1
    minimised, sums = loss(LOGITS, label_smoothing=share)
    log_p = jax.nn.log_softmax(LOGITS)
    target = (1 - share) * jax.nn.one_hot(BATCH["targets"], VOCAB) + share / VOCAB
    nats = -(target * log_p).sum(axis=-1) * BATCH["loss_mask"]
    np.testing.assert_allclose(minimised, nats.sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["loss"].total, loss(LOGITS)[1]["loss"].total)
    gradient = jax.grad(lambda x: loss(x, label_smoothing=share)[0])(LOGITS)
    wanted = (jax.nn.softmax(LOGITS) - target) * BATCH["loss_mask"][..., None]
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
