"""The coordinate check on small models: what is flat under a parametrization, and what shows when
one multiplier is left out.
"""

import functools
import math
from typing import Any

import numpy as np
import pytest

from scaling.certify import coordinates, slopes
from scaling.certify.certificate import forgettable
from scaling.config import override
from scaling.optim import Multipliers
from scaling.optim.parametrization import without
from scaling.studies import study, transfer
from scaling.transforms import transform

WIDTHS, STEPS = (32, 64, 128), 4


@pytest.fixture(scope="module")
def small(tiny_fields: Any):
    """A base of one block at a learning rate that moves it."""
    fields = tiny_fields | {"model.width": 32, "model.heads": 4, "optim.peak_lr": 1e-2}
    return override(study.load_config("configs/lm.py"), {**fields, "model.qk_norm": True})


@pytest.fixture(scope="module")
def slopes_of(small):
    """`slopes_of(name, left_out, **fields)`: by name, along the width; measured once."""

    @functools.cache
    def of(name: str, left_out: tuple[str, str] | None = None, optimizer: str = "adamw") -> Any:
        base = override(small, {"optim.name": optimizer})
        measured = []
        for width in WIDTHS:
            fields = transfer.model(base, "width", width) | transfer.parametrized(base, name)
            config = study.resolve(coordinates.prepared(override(base, fields), STEPS))
            wrong = None if left_out is None else lambda scale: without(scale, *left_out)
            measured.append(coordinates.measure(config, STEPS, wrong, quiet="width")(0))
        return {one.name: one for one in slopes.fit(measured, "width")}

    return of


@pytest.mark.slow
def test_everything_is_measured(slopes_of):
    """Of each parameter its beginning and its update, of each module its change and its size."""
    found = slopes_of("mup")
    leaves = {name.partition("/")[2] for name in found if name.startswith("update/")}
    assert leaves == {name.partition("/")[2] for name in found if name.startswith("initial/")}
    assert {"embedding", "final_norm/scale", "blocks/mlp/up/w"} <= leaves
    changes = {name.partition("/")[2] for name in found if name.startswith("change/")}
    assert {"blocks.0", "blocks.0.attention", "blocks.0.mlp", "output/logits"} <= changes
    assert "final_norm" not in changes  # the output says it


@pytest.mark.slow
def test_mup_is_flat_where_standard_grows(slopes_of):
    """Updates of hidden matrices: 1/width in each entry of muP, as they come in standard, whose
    effect grows as the width. Three small widths, one seed: slopes within a quarter, growth nearer
    to 1 than to 0.
    """
    for name, slope in slopes_of("mup").items():
        if name.startswith("update/") and name.endswith("/w"):
            assert abs(slope.exponent) < 0.25, name
    grown = slopes_of("standard")
    for part in ("attention/query", "attention/value", "mlp/up", "mlp/down"):
        assert grown[f"update/blocks/{part}/w"].exponent > 0.5, part
    assert grown["change/output/logits"].exponent > 0.2
    assert slopes_of("mup")["change/output/logits"].exponent < 0.15


@pytest.mark.exhaustive
def test_muons_updates_are_flat_in_the_spectral_norm(slopes_of):
    for name, slope in slopes_of("mup", optimizer="muon").items():
        if name.startswith("update/") and name.endswith("/w"):
            assert abs(slope.exponent) < 0.1, name
    standard = slopes_of("standard", optimizer="muon")
    assert standard["update/blocks/attention/query/w"].exponent > 0.4


@pytest.mark.parametrize(
    ("path", "field", "kind", "exponent"),
    [
        pytest.param("blocks/mlp/up/w", "rate", "update", 1.0, marks=pytest.mark.slow),
        pytest.param("embedding", "init", "initial", -0.5, marks=pytest.mark.exhaustive),
        pytest.param(
            "blocks/attention/value/w", "rate", "update", 1.0, marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_multiplier_that_is_left_out_is_named(slopes_of, path, field, kind, exponent):
    """Its own slope is that of the factor; those of the other parameters are what they were."""
    right, wrong = slopes_of("mup"), slopes_of("mup", (path, field))
    assert abs(wrong[f"{kind}/{path}"].exponent - exponent) < 0.25
    assert wrong[f"{kind}/{path}"].verdict == "off"
    assert right[f"{kind}/{path}"].verdict != "off"
    own = [name for name in wrong if name.startswith(f"{kind}/") and not name.endswith(path)]
    for name in own:
        assert abs(wrong[name].exponent - right[name].exponent) < 0.3, name


def test_the_ends_of_a_sum_are_outputs_and_branches(small):
    def ends(axis: Any, **fields: Any) -> set[str]:
        named = {f"model.{name}": value for name, value in fields.items()}
        return set(
            coordinates.ends(transform.described(study.resolve(override(small, named))), axis)
        )

    assert ends("width") == {"final_norm/scale"}  # the table that it stands before is the input's
    assert ends("width", tie_embeddings=False) == {"head"}
    assert ends("depth") == {"blocks/attention/out/w", "blocks/mlp/down/w"}


@pytest.mark.slow
def test_ends_begin_at_zero_and_are_said_as_drawn(small):
    config = study.resolve(coordinates.prepared(small, 1))
    drawn, quiet = (coordinates.measure(config, 1, quiet=q)(0).values for q in (None, "width"))
    assert quiet["size/output/logits"][0] == 0.0 < drawn["size/output/logits"][0]
    for name in drawn:
        if name.startswith("initial/"):
            assert quiet[name][0] == drawn[name][0], name
    assert quiet["update/final_norm/scale"][1] > 0.0
    # Nothing comes through the output yet: what moves a matrix is its decay.
    assert quiet["update/blocks/mlp/up/w"][1] < 0.1 * drawn["update/blocks/mlp/up/w"][1]


def test_what_is_left_out_is_a_multiplier_that_is_not_one(small):
    fields = transfer.model(small, "width", 64) | transfer.parametrized(small, "mup")
    scale = transform.described(study.resolve(override(small, fields)))
    path, field = forgettable(scale)
    assert scale.values(field)[path] != 1.0
    lost = without(scale, path, field)
    assert lost.values(field)[path] == 1.0
    others = [p for p in scale.by_path if p != path]
    assert all(lost.values(field)[p] == scale.values(field)[p] for p in others)
    at_base = transform.described(
        study.resolve(override(small, transfer.parametrized(small, "mup")))
    )
    assert set(at_base.multipliers) == {Multipliers()}
    assert forgettable(at_base) is None
    with pytest.raises(KeyError):
        without(scale, "no/such/leaf", "rate")


def test_spectral_sizes_are_what_a_change_does_to_its_input(small):
    """Of a matrix of rank one, exactly: |u||v| over sqrt(fan-out / fan-in)."""
    scale = transform.described(study.resolve(small))
    leaf = scale.by_path["blocks/mlp/up/w"]
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=leaf.fan_in), rng.normal(size=leaf.fan_out)
    x = np.outer(u, v).reshape(leaf.shape).astype(np.float32)
    wanted = np.linalg.norm(u) * np.linalg.norm(v) / math.sqrt(leaf.fan_out / leaf.fan_in)
    np.testing.assert_allclose(coordinates.natural(leaf, x), wanted, rtol=1e-5)
    table = scale.by_path["embedding"]
    np.testing.assert_allclose(
        coordinates.natural(table, np.full(table.shape, -3.0, np.float32)), 3.0, rtol=1e-6
    )
