"""The adversarial losses by their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import choices
from scaling.objectives.adversarial import OBJECTIVE, AdversarialConfig
from scaling.objectives.objective import Sum

RNG = np.random.default_rng(0)
ROWS = 8
IMAGE = jnp.asarray(RNG.normal(size=(ROWS, 2, 2, 1)), jnp.float32)
SAMPLE = jnp.asarray(RNG.normal(size=(ROWS, 2, 2, 1)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=4), jnp.float32)
WEIGHT = jnp.asarray([1, 0, 1, 1, 1, 1, 1, 1], jnp.float32)
BATCH = {"image": IMAGE, "weight": WEIGHT}


def linear(fields: Any) -> Any:
    """Always the same samples, scored by one matrix."""
    if "image" not in fields:
        return {"sample": SAMPLE}
    x = fields["image"].reshape(ROWS, 4)
    return {"score": x @ KERNEL, "features": x[:, :2]}


def rows(batch: Any = BATCH, **fields: Any) -> Any:
    loss = choices.load(OBJECTIVE.rows)(AdversarialConfig(**fields))
    return loss.rows_by(linear, batch, None, {"r1": fields.get("r1", 0.0)})


@pytest.mark.parametrize("form", ["non_saturating", "hinge"])
def test_losses_are_their_definitions(form):
    found = rows(form=form)
    used = np.asarray(WEIGHT) > 0
    real, made = (
        np.asarray(x, np.float64).reshape(ROWS, 4) @ np.asarray(KERNEL) for x in (IMAGE, SAMPLE)
    )
    if form == "hinge":
        down, up = np.maximum(0, 1 - real) + np.maximum(0, 1 + made), -made
    else:
        probability = lambda s: 1 / (1 + np.exp(-s))  # noqa: E731
        down, up = (
            -np.log(probability(real)) - np.log(1 - probability(made)),
            -np.log(probability(made)),
        )
    assert found.minimised.keys() == {player.name for player in OBJECTIVE.players}
    np.testing.assert_allclose(found.minimised["discriminator"], down * used, rtol=1e-5)
    np.testing.assert_allclose(found.minimised["generator"], up * used, rtol=1e-5)
    mean = {n: s.total.sum() / s.count.sum() for n, s in found.sums.items() if isinstance(s, Sum)}
    assert float(mean["loss"]) == pytest.approx(down[used].mean(), rel=1e-5)
    assert float(mean["generator_loss"]) == pytest.approx(up[used].mean(), rel=1e-5)
    assert found.sums.keys() == OBJECTIVE.metrics.keys()


def test_the_penalty_is_the_squared_slope_of_the_score():
    """Of a linear one, the squared length of its matrix; the reported loss is without it."""
    with_, without = rows(r1=3.0), rows()
    more = with_.minimised["discriminator"] - without.minimised["discriminator"]
    np.testing.assert_allclose(more, 1.5 * jnp.sum(KERNEL**2) * WEIGHT, rtol=1e-5)
    np.testing.assert_array_equal(with_.sums["loss"].total, without.sums["loss"].total)
    np.testing.assert_array_equal(with_.minimised["generator"], without.minimised["generator"])


def test_rows_without_weight_change_nothing_whatever_stands_in_them():
    lost = rows(BATCH | {"image": IMAGE.at[1].set(jnp.nan)}, r1=1.0)
    jax.tree.map(np.testing.assert_array_equal, lost, rows(r1=1.0))
