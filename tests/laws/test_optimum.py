"""The best learning rate: its interval covers as often as it says, and says when there is none."""

import numpy as np
import pytest

from scaling.laws.optimum import optima, rate_law

SIZES = np.geomspace(1e4, 1e6, 5)
EXPONENT, SCALE = -0.4, 0.3


def study(rng, *, spacing, count, seeds, noise, lopsided=0.0, fading=0.0, sizes=SIZES):
    """Curves of a study whose best rates follow a law, and those rates. The grid of rates is off
    the best one by up to 0.4 of a spacing. The noise falls as size^-fading.
    """
    curves, best = [], SCALE * sizes**EXPONENT
    for size, rate in zip(sizes, best, strict=True):
        place = np.arange(count) - (count - 1) / 2 + rng.uniform(-0.4, 0.4)
        rates = np.repeat(rate * spacing**place, seeds)
        u = np.log(rates / rate)
        loss = (1 + 20 * size**-0.2) * (1 + 0.02 * u**2 + lopsided * u**3)
        sd = noise * (sizes[0] / size) ** fading
        curves.append((rates, loss * (1 + rng.normal(0, sd, len(u)))))
    return curves, best


STUDIES = {
    "one run a rate": {"spacing": 2**0.5, "count": 5, "seeds": 1, "noise": 1e-3},
    "seeds": {"spacing": 2.0, "count": 7, "seeds": 2, "noise": 2e-3},
    "lopsided": {"spacing": 2.0, "count": 7, "seeds": 1, "noise": 1e-3, "lopsided": 0.004},
    "small sizes noisier": {
        **{"spacing": 2.0, "count": 5, "seeds": 2, "noise": 1e-2, "fading": 0.5},
    },
    "few rates far apart": {"spacing": 10**0.5, "count": 4, "seeds": 3, "noise": 2e-3},
    "one curve": {"spacing": 2.0, "count": 5, "seeds": 3, "noise": 2e-3, "sizes": SIZES[:1]},
}


@pytest.mark.parametrize("kind", STUDIES)
def test_an_interval_of_90_percent_covers_85_to_95(kind):
    rng, hits = np.random.default_rng(0), []
    while len(hits) < 1000:
        curves, best = study(rng, **STUDIES[kind])
        for found, rate in zip(optima(curves, level=0.9), best, strict=True):
            if np.isfinite(found.low):
                hits.append(found.low <= rate <= found.high)
    assert 0.85 <= np.mean(hits) <= 0.95


@pytest.mark.parametrize("kind", ["one run a rate", "seeds", "lopsided"])
def test_the_interval_of_the_laws_exponent_covers_as_often(kind):
    rng, hits = np.random.default_rng(1), []
    for _ in range(400):
        curves, _ = study(rng, **STUDIES[kind])
        law = rate_law(SIZES, optima(curves))
        hits.append(law.low <= EXPONENT <= law.high)
    assert 0.85 <= np.mean(hits) <= 0.95


def test_without_noise_the_minimum_and_its_law_are_found():
    curves, best = study(
        np.random.default_rng(0), spacing=2.0, count=5, seeds=1, noise=0.0, lopsided=0.002
    )
    found = optima(curves)
    np.testing.assert_allclose([o.rate for o in found], best, rtol=1e-6)
    np.testing.assert_allclose([o.loss for o in found], 1 + 20 * SIZES**-0.2, rtol=1e-6)
    np.testing.assert_allclose(
        [o.doubling for o in found], [o.loss * 0.02 * np.log(2) ** 2 for o in found], rtol=1e-4
    )
    law = rate_law(SIZES, found)
    assert law.exponent == pytest.approx(EXPONENT, rel=1e-5)
    assert law.scale == pytest.approx(SCALE, rel=1e-4)
    np.testing.assert_allclose(law.at(SIZES)[0], best, rtol=1e-5)


def test_the_unit_of_the_rate_and_of_the_loss_do_not_matter():
    curves, _ = study(np.random.default_rng(2), **STUDIES["seeds"])
    plain, other = optima(curves), optima([(1000 * r, 7 * loss) for r, loss in curves])
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_allclose(
            [1000 * a.rate, 1000 * a.low, 1000 * a.high, 7 * a.loss],
            [b.rate, b.low, b.high, b.loss],
            rtol=1e-6,
        )


@pytest.mark.parametrize(("side", "word"), [(slice(0, 3), "largest"), (slice(3, 6), "smallest")])
def test_a_best_rate_at_the_edge_has_no_interval_and_no_place_in_the_law(side, word):
    rates = np.geomspace(1e-3, 3e-2, 6)
    loss = 2 + 0.1 * np.log(rates / np.sqrt(rates[2] * rates[3])) ** 2
    inside, edge = optima([(rates, loss), (rates[side], loss[side])])
    assert not inside.refused
    assert inside.rate == pytest.approx(np.sqrt(rates[2] * rates[3]), rel=1e-9)
    assert edge.refused == f"at the edge, no interval: the best is the {word} rate tried"
    assert np.isnan(edge.low)
    assert edge.rate in (rates[2], rates[3])
    assert rate_law(np.array([1e4, 1e5]), [inside, edge]) is None


def test_what_is_too_little_or_too_flat_is_said():
    rates = np.geomspace(1e-3, 1e-2, 3)
    (three,) = optima([(rates, np.array([2.1, 2.0, 2.2]))])
    assert "no more runs than the curve has parameters" in three.wide
    assert not three.refused
    (two,) = optima([(rates[:2], np.array([2.1, 2.0]))])
    assert two.refused.endswith("takes three learning rates: tried 2")
    flat = np.tile([2.1, 2.0, 2.1], 2) + np.repeat([0.2, -0.2], 3)
    (found,) = optima([(np.tile(rates, 2), flat)])
    assert found.wide == "the curve is too flat for its noise: the interval has no ends"
    assert np.isnan(found.high)
    (none,) = optima([(np.array([]), np.array([]))])
    assert none.refused


def test_a_run_that_diverged_is_left_out():
    curves, _ = study(np.random.default_rng(3), **STUDIES["seeds"])
    more = [(np.append(r, 10.0), np.append(loss, np.nan)) for r, loss in curves]
    assert optima(more) == optima(curves)
