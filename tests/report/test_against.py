"""Lines over the validation loss: slopes and drifts are those that the numbers were made with."""

import numpy as np
import pandas as pd
import pytest

from scaling.report.against import against_figures, line_of

RNG = np.random.default_rng(0)
PARAMS = np.repeat([1e3, 1e4, 1e5, 1e6], 6)
LOSS = 3 * PARAMS**-0.1 * np.exp(0.2 * RNG.normal(size=24))


@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_slope_and_drift_are_found(drift):
    noise = np.exp(0.01 * RNG.normal(size=24))
    line = line_of(LOSS, 2 * LOSS**1.5 * PARAMS**drift * noise, PARAMS)
    said = line.said("prose", "parameters")
    assert abs(line.drift - drift) <= 2 * line.half
    if drift:
        assert line.drift - line.half > 0
        assert said.endswith("off the line.")
    else:
        assert line.slope == pytest.approx(1.5, abs=0.03)
        assert line.spread == pytest.approx(0.01, rel=0.4)
        assert said.endswith("on the line.")


def test_a_size_that_the_loss_tells_already_says_nothing():
    line = line_of(PARAMS**-0.1, PARAMS**-0.2, PARAMS)
    assert np.isnan(line.drift)
    assert line.slope == pytest.approx(2)
    assert line.said("prose", "parameters") == "prose: slope 2.00, off the line by 0.0% (SD)."


def frame(**more) -> pd.DataFrame:
    table = pd.DataFrame({"params": PARAMS, "loss": LOSS, "train_loss": LOSS, "state": "done"})
    return table.assign(seed=0, unit="image", objective="classification", **more)


def test_other_sets_and_passes_have_a_figure_each_and_the_training_set_none():
    seen = frame(**{"loss/seen": LOSS, "loss/noise": 2 * LOSS, "probe_accuracy/few": 1 / LOSS})
    shift, probe = against_figures(seen, "params")
    assert (shift.name, probe.name) == ("shift", "probe_accuracy_by_loss")
    assert set(shift.data["set"]) == {"noise"}
    np.testing.assert_allclose(shift.data["shift"], 2 * LOSS)
    assert "noise: slope 1.00" in shift.caption
    np.testing.assert_allclose(probe.data["probe_accuracy_by_loss"], 1 / LOSS)
    assert not list(against_figures(seen[:7], "params"))
    assert not list(against_figures(frame(), "params"))
