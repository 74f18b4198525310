"""Exposures are those of sorted losses."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.metrics import exposure, statistics
from scaling.metrics.declared import EXPOSURES
from scaling.metrics.finish import finish

RNG = np.random.default_rng(0)


def counted(loss: np.ndarray, planted: np.ndarray) -> np.ndarray:
    weight = jnp.ones(len(loss))
    return np.asarray(
        statistics.placed(jnp.asarray(loss), jnp.asarray(planted), weight), np.float64
    )


@pytest.mark.parametrize("shift", [0.0, 1.0, 4.0])
def test_the_mean_is_that_of_exact_ranks(shift):
    references, own = RNG.normal(6, 1, 500), RNG.normal(6 - shift, 1, 20)
    rows = counted(np.concatenate([own, references]), np.arange(520) < 20)
    found = finish({"exposure": rows, "extracted": rows}, EXPOSURES)
    rank = 1 + (references[None] < own[:, None]).sum(axis=1)
    wanted = np.mean(np.log2(501) - np.log2(rank))
    # A bin is 0.008 nats: some references stand beside the secret in its own.
    assert found["exposure"] == pytest.approx(wanted, abs=0.1)
    assert found["extracted"] == pytest.approx((rank == 1).mean(), abs=0.06)
    assert 0 < found["exposure_se"] < 1.5


def test_what_is_unlike_any_other_has_all_the_bits_there_are():
    rows = counted(np.array([0.1, 5.0, 6.0, 7.0]), np.array([1.0, 0, 0, 0]))
    assert exposure.exposure(rows.sum(axis=0)) == 2.0 == np.log2(4)
    assert exposure.extracted(rows.sum(axis=0)) == 1.0
    assert np.isnan(exposure.exposure(rows[1:].sum(axis=0)))


def test_secrets_that_are_like_the_others_have_the_bits_of_chance():
    many = RNG.normal(5, 1, 2_000)
    rows = counted(many, np.arange(len(many)) < 1_000).sum(axis=0)  # an SD of 0.05 bits
    assert exposure.exposure(rows) == pytest.approx(1 / np.log(2), abs=0.15)
