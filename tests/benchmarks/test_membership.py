"""An attack is judged where it is known how well it can do."""

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.membership import allowed, judged, rates, scores


def shadows(apart: float, runs: int = 40, examples: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of unit variance about each example's own mean, `apart` higher in training."""
    rng = np.random.default_rng(0)
    member = rng.random((runs, examples)) < 0.5
    own = 3 * rng.normal(size=examples)
    return own + apart * member + rng.normal(size=member.shape), member


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.0])
def test_the_attack_does_as_well_as_anybody_could(apart: float) -> None:
    confidence, member = shadows(apart)
    score = scores(confidence, member)
    found = [judged(s, m) for s, m in zip(score, member, strict=True)]
    # Two normal distributions of unit variance: what no test exceeds (Neyman and Pearson).
    advantage = 2 * norm.cdf(apart / 2) - 1
    area = norm.cdf(apart / np.sqrt(2))
    assert np.mean([row["area"] for row in found]) == pytest.approx(area, abs=0.02)
    pooled = judged(score.ravel(), member.ravel())
    assert pooled["advantage"] == pytest.approx(advantage, abs=0.03)
    at_1 = norm.sf(norm.isf(0.01) - apart)
    assert pooled["true_at_1"] == pytest.approx(at_1, abs=0.03)


def test_the_attacked_run_is_none_of_its_shadows() -> None:
    confidence, member = shadows(1.0, runs=8)
    other = confidence.copy()
    other[0] += 5 * member[0]
    same = scores(confidence, member), scores(other, member)
    # Its own confidences are what is judged, not what it is judged by.
    assert np.nanmean((same[1] - same[0])[0][member[0]]) > 0
    unseen = np.zeros_like(member)
    unseen[0] = True
    assert np.isnan(scores(confidence, unseen)[0]).all()  # nobody else was trained on them


def test_equal_scores_are_one_threshold() -> None:
    false, true = rates(np.zeros(4), np.array([True, False, True, False]))
    assert false.tolist() == [0, 1]
    assert true.tolist() == [0, 1]


def test_what_epsilon_allows() -> None:
    assert allowed(0.0, 0.0) == 0
    assert allowed(np.log(3), 0.0) == pytest.approx(0.5)
    assert allowed(np.inf, 0.0) == 1
