"""The standard error of an evaluation is the one that repeated evaluations show."""

import numpy as np

from scaling.metrics.finish import finish


def test_mean_is_over_tokens_not_over_windows():
    rows = {"loss": (np.array([10.0, 1.0]), np.array([10.0, 2.0]))}
    assert finish(rows, {})["loss"] == 11.0 / 12.0


def test_padding_windows_count_for_nothing():
    rows = {"loss": (np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0]))}
    padded = {"loss": tuple(np.append(column, [0.0, 0.0]) for column in rows["loss"])}
    assert finish(rows, {}) == finish(padded, {})


def test_standard_error_is_the_spread_of_repeated_evaluations():
    """Windows of unequal length whose tokens share a difficulty: windows are the sample."""
    rng = np.random.default_rng(0)

    def draw() -> dict:
        counts = rng.integers(5, 20, size=200).astype(float)
        difficulty = rng.gamma(4.0, 0.25, size=200)
        return {"loss": (counts * difficulty + rng.normal(size=200), counts)}

    results = [finish(draw(), {}) for _ in range(400)]
    spread = np.std([r["loss"] for r in results])
    claimed = np.mean([r["loss_se"] for r in results])
    # 400 repetitions know a standard deviation to 1 / sqrt(800) = 3.5 %; three of those.
    assert abs(claimed / spread - 1) < 0.11
