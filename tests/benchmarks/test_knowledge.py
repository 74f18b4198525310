"""The law of capacity comes back from a table of runs that was made by it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.knowledge import bits, draw, fitted, said


@pytest.mark.slow
def test_bits_a_parameter_return(tmp_path) -> None:
    rng, rows = np.random.default_rng(0), []
    for times, ratio in ((100.0, 1.0), (1000.0, 2.0)):
        for params in (3e3, 8e3, 2e4):
            for load in (0.5, 1.0, 2.0, 4.0, 8.0):
                people, each = load * params / 60, 60.0
                known = 1 / ((1 / (people * each)) ** 4 + (1 / (ratio * params)) ** 4) ** 0.25
                noisy = known / people * np.exp(0.01 * rng.normal())
                row = {"status": "done", "params": params, "width": int(params**0.5)}
                row |= {"unique": people, "epochs": times - 0.01}
                rows.append(row | {"known_bits/told": noisy, "fact_bits/told": each})
    rows.append(rows[0] | {"status": "running", "known_bits/told": np.nan})
    done = bits(pd.DataFrame(rows))
    assert len(done) == 30
    found = fitted(done)
    table = said(found).set_index("exposures")
    assert table["R"].tolist() == pytest.approx([1.0, 2.0], rel=0.03)
    # What is true lies in the interval of 90 %, or in one of three times its width.
    assert ((table["R"] - table["published"]).abs() < 1.5 * (table["high"] - table["low"])).all()
    assert ((table["low"] < table["R"]) & (table["R"] < table["high"])).all()
    draw(done, found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
