"""A fall, a rise and a second fall are found where they are."""

import numpy as np
import pandas as pd

from benchmarks.double_descent import three


def errors(*points: tuple[int, float]) -> pd.DataFrame:
    """Straight lines between points (step, error), evaluated every 100 steps; three seeds that are
    a hundredth apart.
    """
    steps = np.arange(100, points[-1][0] + 1, 100)
    line = np.interp(steps, *zip(*points, strict=True))
    return pd.DataFrame({seed: line + 0.01 * seed for seed in range(3)}, index=steps)


def number(text: str) -> float:
    return float(text.split(" ")[0])


def test_a_second_descent_is_named_with_its_places():
    found = three(errors((100, 0.5), (1000, 0.2), (2000, 0.4), (4000, 0.1)))
    places = {name: int(found[name].split(" at ")[1]) for name in ("low", "peak", "second low")}
    assert abs(places["low"] - 1000) <= 200
    assert abs(places["peak"] - 2000) <= 200
    assert places["second low"] >= 3700
    # Means over a tenth of the evaluations blunt the ends. Seeds that are apart rise alike.
    assert 0.15 < number(found["rise"]) <= 0.2
    assert number(found["rise"].split("± ")[1]) == 0
    assert number(found["fall"]) > number(found["rise"])


def test_what_only_falls_has_no_rise():
    found = three(errors((100, 0.5), (4000, 0.1)))
    assert number(found["rise"]) == 0
