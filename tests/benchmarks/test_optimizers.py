"""What an optimizer is worth is found where it is known."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.optimizers import best, trend, worth


def runs(gain: float, grows: float, noise: float = 0.0) -> pd.DataFrame:
    """Losses 2 steps^-0.2 at the best of five rates, of "other" as if it made `gain` times as many
    steps at width 16, and that times (width / 16)^grows at others.
    """
    rng, rows = np.random.default_rng(0), []
    for width in (16, 32, 64):
        for name, steps in (("one", 200), ("one", 400), ("one", 800), ("other", 400)):
            counted = steps * (gain * (width / 16) ** grows if name == "other" else 1)
            for octave in (-2, -1, 0, 1, 2):
                loss = 2 * counted**-0.2 * (1 + 0.01 * octave**2) * (1 + noise * rng.normal())
                row = {"optim.name": name, "width": width, "steps": steps, "loss": loss}
                rows.append(row | {"optim.peak_lr": 0.01 * 2.0**octave})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("gain", "grows"), [(2.0, 0.0), (1.5, -0.3)])
def test_a_ratio_and_its_trend_are_found(gain, grows):
    rows = worth(best(runs(gain, grows, noise=1e-5), "optim.name"), "one")
    wanted = np.log(gain) + grows * np.log(rows["width"] / 16)
    np.testing.assert_allclose(rows["log"], wanted, atol=2e-3)
    assert trend(rows)[0] == pytest.approx(grows, abs=2e-3)


def test_with_noise_the_interval_holds_it():
    rows = worth(best(runs(2.0, 0.0, noise=0.003), "optim.name"), "one")
    slope, half = trend(rows)
    assert abs(slope) < half < 0.3
