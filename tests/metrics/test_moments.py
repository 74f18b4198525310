"""The Frechet distance of Gaussians whose distance is known in closed form."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from scaling.config.contracts import Metric
from scaling.metrics import statistics
from scaling.metrics.finish import finish
from scaling.metrics.moments import Gaussian, frechet, frechet_distance, gaussian

RNG = np.random.default_rng(0)


def covariance(size: int, rank: int | None = None) -> np.ndarray:
    root = RNG.normal(size=(size, rank or size))
    return root @ root.T


def sums(features: np.ndarray, center=None, each=1) -> np.ndarray:
    z = statistics.augmented(jnp.asarray(features, jnp.float32), None, center)
    return np.asarray(statistics.second_moments(z, jnp.ones(len(features)), each), np.float64)


def test_mean_and_covariance_are_those_of_the_features():
    features = RNG.normal(size=(40, 3)) @ RNG.normal(size=(3, 3)) + 1
    found = gaussian(sums(features).sum(axis=0))
    np.testing.assert_allclose(found.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(features.T), rtol=1e-4, atol=1e-5)


def test_a_centre_keeps_a_variance_that_is_small_beside_the_mean():
    features = np.float32(1000 + RNG.normal(size=(64, 2)))
    wanted = np.cov(features.astype(float).T)
    centred = gaussian(sums(features, jnp.full(2, 1000.0)).sum(axis=0)).covariance
    plain = gaussian(sums(features).sum(axis=0)).covariance
    np.testing.assert_allclose(centred, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(plain - wanted).max() > 10 * np.abs(centred - wanted).max()


def test_the_distance_along_one_axis_is_that_of_means_and_standard_deviations():
    a = Gaussian(np.array([1.0]), np.array([[4.0]]))
    b = Gaussian(np.array([-2.0]), np.array([[25.0]]))
    assert frechet_distance(a, b) == pytest.approx((1 - -2) ** 2 + (2 - 5) ** 2)


def test_commuting_covariances_differ_by_their_roots():
    basis = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    first, second = RNG.uniform(size=(2, 5))
    a, b = (Gaussian(np.zeros(5), basis * v @ basis.T) for v in (first, second))
    wanted = np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
    assert frechet_distance(a, b) == pytest.approx(wanted)


@pytest.mark.parametrize("size", [2, 6])
def test_covariances_that_do_not_commute_against_the_root_of_their_product(size):
    a, b = (Gaussian(RNG.normal(size=size), covariance(size)) for _ in range(2))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    wanted = np.sum((a.mean - b.mean) ** 2)
    wanted += np.trace(a.covariance + b.covariance - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(wanted)
    assert frechet_distance(b, a) == pytest.approx(wanted)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_set_is_no_distance_from_itself_also_without_full_rank(rank):
    a = Gaussian(RNG.normal(size=5), covariance(5, rank))
    # The root of an eigenvalue that rounding made 1e-16 is 1e-8.
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_samples_show_the_distance_of_what_they_are_drawn_from_with_its_error():
    a, b = Gaussian(np.zeros(2), covariance(2)), Gaussian(np.ones(2), covariance(2))
    examples, each, metrics = 4000, 50, {"frechet": Metric("Frechet distance", finish=frechet)}
    drawn = (RNG.multivariate_normal(g.mean, g.covariance, size=examples) for g in (a, b))
    pair = np.stack([sums(features, each=each) for features in drawn], axis=1)
    assert pair.shape == (examples // each, 2, 3, 3)
    found = finish({"frechet": pair}, metrics)
    wanted = frechet_distance(a, b)
    assert found["frechet_se"] < 0.1 * wanted
    assert abs(found["frechet"] - wanted) < 3 * found["frechet_se"]


def test_fewer_than_two_examples_and_what_is_not_finite_have_no_distance():
    full = sums(RNG.normal(size=(9, 2))).sum(axis=0)
    one = sums(RNG.normal(size=(1, 2))).sum(axis=0)
    for other in (one, np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)):
        with np.errstate(invalid="ignore"):
            assert math.isnan(frechet(np.stack([full, other])))
