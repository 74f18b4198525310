"""Slopes of a coordinate check, of sizes with known exponents."""

import numpy as np
import pytest

from scaling.certify.coordinates import Sizes
from scaling.certify.slopes import Slope, fit, holds, off

WIDTHS = (32, 64, 128, 256)


def measured(exponents: dict[str, float], noise: float = 0.0, axis: str = "width") -> list[Sizes]:
    """Two seeds a size; everything is size^exponent at step 1, and 1 at step 0."""
    rng, out = np.random.default_rng(0), []
    for size in WIDTHS:
        for seed in (0, 1):
            values = {
                name: np.array([1.0, size**exponent * np.exp(noise * rng.normal())])
                for name, exponent in exponents.items()
            }
            shape = {"width": size, "depth": 2} if axis == "width" else {"width": 8, "depth": size}
            out.append(Sizes(**shape, seed=seed, values=values))
    return out


def by_name(slopes: list[Slope]) -> dict[str, Slope]:
    return {one.name: one for one in slopes}


def test_known_exponents_are_found_and_judged():
    exponents = {"change/a": 0.0, "change/b": 0.5, "update/c": -1.0, "size/d": 1.0}
    found = by_name(fit(measured(exponents), "width"))
    for name, exponent in exponents.items():
        assert abs(found[name].exponent - exponent) < 1e-9
        assert found[name].low <= exponent + 1e-9
        assert found[name].high >= exponent - 1e-9
    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == {"change/a": "flat", "change/b": "off", "update/c": "off", "size/d": "off"}
    # Sizes are shown, not judged; the clearest is first.
    assert [one.name for one in off(fit(measured(exponents), "width"))] == ["update/c", "change/b"]
    assert not holds(list(found.values()))
    assert holds([found["change/a"], found["size/d"]])


def test_initial_sizes_are_those_of_step_0():
    (one,) = fit(measured({"initial/w": 1.0}), "width")
    assert one.verdict == "flat"
    assert one.sizes == (1.0,) * 4


def test_the_course_of_an_exponent_is_that_of_its_steps():
    sizes = [
        Sizes(w, 2, 0, {"change/a": np.array([0.0, w**0.5, w**0.2]), "initial/b": np.ones(3)})
        for w in WIDTHS
    ]
    found = by_name(fit(sizes, "width"))
    assert [round(one[0], 9) for one in found["change/a"].course] == [0.5, 0.2]
    assert found["change/a"].exponent == found["change/a"].course[-1][0]
    assert found["initial/b"].course == ()


def test_what_noise_hides_is_unclear():
    slopes = [
        fit(measured({"change/a": 0.15}, noise=noise), "width")[0].verdict
        for noise in (0.0, 0.01, 1.0)
    ]
    assert slopes == ["off", "off", "unclear"]


def test_intervals_cover_as_often_as_they_say():
    """90 percent, of 400 draws: within three standard errors."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        sizes = [
            Sizes(w, 2, 0, {"change/a": np.array([w**0.3 * np.exp(0.2 * rng.normal())])})
            for w in WIDTHS
        ]
        (one,) = fit(sizes, "width", step=0)
        hits += one.low <= 0.3 <= one.high
    assert abs(hits / 400 - 0.9) < 3 * (0.9 * 0.1 / 400) ** 0.5


def test_what_is_zero_somewhere_has_no_slope():
    sizes = measured({"change/a": 0.0, "change/b": 0.0})
    sizes[3].values["change/b"][-1] = 0.0
    assert [one.name for one in fit(sizes, "width")] == ["change/a"]


@pytest.mark.parametrize("depths", [(2, 4, 8), (3, 6, 12)])
def test_blocks_are_compared_by_their_share_of_the_depth(depths):
    """All grows in proportion to what lies before it: flat, wherever it is compared."""
    within = {"": 1.0, ".attention": 0.0, ".attention_norm": 0.0, ".mlp": 0.5}
    sizes = [
        Sizes(
            width=8,
            depth=d,
            seed=0,
            values={
                f"change/blocks.{i}{part}": np.array([1 + (i + before) / d])
                for part, before in within.items()
                for i in range(d)
            },
            branches=("attention", "mlp"),
        )
        for d in depths
    ]
    found = by_name(fit(sizes, "depth", step=0))
    assert found.keys() == {
        *(f"change/blocks at {share}" for share in ("50%", "75%", "100%")),
        *(f"change/blocks at {share}.mlp" for share in ("25%", "50%", "75%")),
        *(
            f"change/blocks at {share}.attention{norm}"
            for share in ("25%", "50%")
            for norm in ("", "_norm")
        ),
    }
    for name, one in found.items():
        share = float(name.partition("at ")[2].partition("%")[0]) / 100
        np.testing.assert_allclose(one.sizes, 1 + share, rtol=1e-9)
        assert one.verdict == "flat"
