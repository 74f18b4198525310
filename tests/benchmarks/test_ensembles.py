"""An ensemble is held against one model of as many FLOPs."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.ensembles import beside


def frame(better: float) -> pd.DataFrame:
    """Models whose loss is FLOPs^-0.1, and pairs of them that are so much better than one such."""
    rows = []
    for width in (8, 16, 32):
        flops = 1e3 * width**3
        for members in (1, 2):
            loss = (members * flops) ** -0.1
            loss *= 1 - better if members > 1 else 1
            rows.append({"how": "predictions", "width": width, "members": members,
                         "flops": members * flops, "loss": loss})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("better", [0.0, 0.05, -0.1])
def test_what_an_ensemble_gains_is_found(better):
    found = beside(frame(better)).set_index("width")["gain"]
    np.testing.assert_allclose(found[[8, 16]], better, atol=1e-9)
    assert np.isnan(found[32])  # no single model is as dear


def test_averaged_weights_are_not_averaged_predictions():
    rows = frame(0.0)
    worse = rows.assign(how="weights", loss=9.0)
    pd.testing.assert_frame_equal(beside(pd.concat([rows, worse])), beside(rows))
