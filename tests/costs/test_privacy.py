"""Epsilons are those of dp-accounting 0.6.0, which does not install beside the other packages."""

import numpy as np
import pytest

from scaling.costs.privacy import epsilon

# (rate, noise, steps, delta) -> RdpAccountant(orders=privacy.ORDERS) of SelfComposedDpEvent(
# PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps), get_epsilon(delta).
KNOWN = {
    (0.01, 1.0, 1000, 1e-5): 2.1077530754515745,
    (0.05, 0.7, 200, 1e-4): 11.144769689957275,
    (0.002, 2.0, 20000, 1e-6): 0.6719558965599516,
    (1.0, 5.0, 50, 1e-5): 7.087861628831665,
    (0.2, 4.0, 500, 1e-3): 4.184226918988977,
}


@pytest.mark.parametrize("given", KNOWN, ids=str)
def test_it_is_dp_accountings_own(given):
    assert epsilon(*given) == pytest.approx(KNOWN[given], rel=1e-12)


def test_noise_and_small_samples_hide_and_steps_reveal():
    base = epsilon(0.01, 1.0, 1000, 1e-5)
    assert epsilon(0.01, 1.5, 1000, 1e-5) < base
    assert epsilon(0.005, 1.0, 1000, 1e-5) < base
    assert epsilon(0.01, 1.0, 2000, 1e-5) > base
    assert epsilon(0.01, 1.0, 1000, 1e-6) > base
    assert np.isinf(epsilon(0.01, 0.0, 1, 1e-5))
