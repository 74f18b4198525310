"""Laws and plans of data that are not tokens: amounts, words and FLOPs are the table's own."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from scaling.commands.laws import models_of
from scaling.config import override
from scaling.config.amounts import units
from scaling.costs import sizes
from scaling.errors import UserError
from scaling.laws import LAWS, Options, fit
from scaling.laws.design import design
from scaling.laws.fit_command import fit_command
from scaling.laws.isoflop import side_by_side
from scaling.laws.measures import amounts_of, check_falls
from scaling.laws.options import PlanRequest, read
from scaling.laws.plan_command import plan_command
from scaling.laws.planning import optimum, plan
from scaling.laws.shapes import ByFormula, ByWidth, Shape
from scaling.studies.study import load_config, load_study, resolve
from tests.laws.conftest import fit_request

FLOPS_PER_PARAM = 60.0  # a parameter and image: convolutions use a kernel at every place


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    """Runs as our own tables have them, of images, on a chinchilla law."""
    params = np.repeat(np.geomspace(1e3, 1e6, 6), 4)
    images = params * np.tile([0.3, 1.0, 3.0, 10.0], 6)
    wave = np.exp(0.002 * np.sin(np.arange(24) ** 2))
    loss = (0.05 + 20 * params**-0.5 + 30 * images**-0.5) * wave
    return pd.DataFrame({
        "status": "done", "unit": "image", "objective": "classification", "params": params,
        "amount": images, "images": images, "unique": 1437.0, "unique_images": 1437.0,
        "flops": FLOPS_PER_PARAM * params * images, "loss": loss, "accuracy": 1 - loss / 10,
    })  # fmt: skip


@pytest.fixture(scope="module")
def workdir(digits: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("digits")
    digits.to_csv(folder / "table.csv", index=False)
    fit_command(
        fit_request(workdir=str(folder), law="chinchilla", bootstrap=60, out=str(folder / "fit"))
    )
    return folder


def test_amounts_are_the_table_s(digits: pd.DataFrame) -> None:
    law = LAWS["data_constrained"]
    assert amounts_of(law, digits) == {"tokens": "images", "unique_tokens": "unique_images"}
    alone = digits.drop(columns=["images", "unique_images"])
    assert amounts_of(law, alone) == {"tokens": "amount", "unique_tokens": "unique"}
    tokens = digits.assign(unit="token", tokens=digits.images)
    assert not amounts_of(LAWS["chinchilla"], tokens)
    # Somebody's column of that name says nothing of ours.
    assert not amounts_of(LAWS["chinchilla"], pd.DataFrame({"unit": ["A100"], "tokens": [1.0]}))
    both = pd.concat([tokens, digits])
    with pytest.raises(UserError, match=r"count images, tokens; .*--by=unit"):
        amounts_of(LAWS["chinchilla"], both)
    assert not amounts_of(LAWS["power_floor"], both)


def test_a_fit_of_images_is_that_of_tokens_under_another_name(digits: pd.DataFrame) -> None:
    ours = fit(digits, "chinchilla", Options(bootstrap=0))
    named = digits[["params", "loss"]].assign(tokens=digits.images)
    theirs = fit(named, "chinchilla", Options(bootstrap=0))
    assert ours.params == theirs.params
    assert ours.x == {"params": "params", "tokens": "images"}
    assert (ours.unit, theirs.unit) == ("image", None)
    assert ours.formula == "E + A / params^alpha + B / images^beta"
    at = {"params": 1e6, "images": 1e7}
    assert ours.draws(at)[0] == theirs.draws({"params": 1e6, "tokens": 1e7})[0]
    shown = fit(digits, "data_constrained", Options(bootstrap=0, fixed=dict.fromkeys(
        ("R_D", "R_N"), 5.0))).formula  # fmt: skip
    assert "tokens" not in shown


def test_what_is_printed_says_images(workdir: pathlib.Path) -> None:
    request = fit_request(
        workdir=str(workdir), law="chinchilla", bootstrap=20, approaches=True, seed=1
    )
    text = fit_command(request).text
    assert "  images: training images, repeats counted\n" in text
    assert "validation loss, nats\n" in text
    assert "token" not in text
    text = fit_command(fit_request(workdir=str(workdir), x="amount", bootstrap=0)).text
    assert "token" not in text


def test_text_is_said_as_it_was(digits: pd.DataFrame, tmp_path: pathlib.Path) -> None:
    tokens = digits.drop(columns=["images", "unique_images", "objective"])
    for more in ({"objective": "next_token"}, {}):  # older tables have no such column
        table = tokens.assign(unit="token", tokens=digits.images, **more)
        table.to_csv(tmp_path / "table.csv", index=False)
        text = fit_command(fit_request(workdir=str(tmp_path), bootstrap=0)).text
        for line in (
            "tokens: training tokens, repeats counted",
            "flops: training FLOPs of all matmuls, attention in full (3 x forward)",
            "loss: final in-distribution validation loss, nats a token",
        ):
            assert f"  {line}\n" in text + "\n"


def test_exponents_of_images_side_by_side(digits: pd.DataFrame) -> None:
    found = side_by_side(digits, approaches=("3",))
    assert list(found["quantity"]) == ["params", "images"]
    # params* images* is the budget over what a parameter and image cost.
    assert found["scale"].prod() == pytest.approx(1 / FLOPS_PER_PARAM, rel=1e-4)
    assert found["exponent"].sum() == pytest.approx(1)


def test_what_rises_is_no_loss(digits: pd.DataFrame, workdir: pathlib.Path) -> None:
    options = {"workdir": str(workdir), "bootstrap": 0}
    with pytest.raises(UserError, match=r"--loss=accuracy: .*--derive='error=1-accuracy'"):
        fit_command(fit_request(**options, loss="accuracy"))
    with pytest.raises(UserError, match=r"--columns: loss is accuracy"):
        fit_command(fit_request(**options, columns="loss=accuracy"))
    made = fit_command(fit_request(**options, derive="error=1-accuracy", loss="error"))
    assert made.fits[""].params["alpha"] > 0
    # Of a table that says no objective, by the metrics that are registered.
    with pytest.raises(UserError, match=r"--columns='r_squared=r_squared/far' --derive"):
        check_falls(LAWS["power"], "r_squared/far", "r_squared/far", digits[["params"]])
    check_falls(LAWS["accuracy"], "accuracy", "accuracy", digits)
    check_falls(LAWS["power"], "brier", "brier", digits)


# ---- plans


def by_width(flops: float = 1e12) -> ByWidth:
    """Models of width^2 params, a unit of which costs width^3 FLOPs: dearer, the larger."""
    return ByWidth(
        lambda width: Shape(width**2, float(width**3), {"model.width": width}),
        4, unit="image", name="square", flops=flops,
    )  # fmt: skip


def test_shapes_by_width_are_those_of_the_recipe() -> None:
    shapes = by_width()
    widths = np.array([4, 12, 100, 1000])
    np.testing.assert_allclose(shapes.flops_per_unit(widths**2.0), widths**3.0, rtol=1e-9)
    assert [shapes.nearest(float(w**2)).overrides["model.width"] for w in widths] == list(widths)
    assert shapes.nearest(101.0**2).overrides["model.width"] == 100
    # 20 units a param: width^5 is a twentieth of the budget.
    assert shapes.even(1e12, 20) == pytest.approx((1e12 / 20) ** 0.4, rel=1e-3)
    six = ByFormula()
    assert six.even(1e12) * six.flops_per_unit(six.even(1e12)) == pytest.approx(1e12)


def test_a_recipe_that_makes_nothing_is_refused() -> None:
    def none(width: int) -> Shape:
        raise UserError(f"no width {width}")

    with pytest.raises(UserError, match=r"--recipe=odd makes no ladder of models: no width"):
        ByWidth(none, 8, unit="image", name="odd", flops=1e12)


def test_the_optimum_minds_what_a_size_costs(digits: pd.DataFrame) -> None:
    found, shapes = fit(digits, "chinchilla", Options(bootstrap=60)), by_width()
    made = plan(found, 1e11, shapes=shapes)
    assert made.unit == "image"
    spent = made.amount.value * shapes.flops_per_unit(made.params.value)
    assert spent == pytest.approx(1e11)
    # Of all widths, none has a lower loss for the money.
    widths = np.arange(4, 400, 4.0)
    at = {"params": widths**2, "images": 1e11 / widths**3}
    losses = found.draws(at)[0]
    best = widths[np.argmin(losses)]
    assert abs(np.sqrt(made.params.value) - best) <= 4
    assert float(np.exp(optimum(found, 1e11)[0])) != pytest.approx(made.params.value, rel=0.1)
    assert made.other_sizes["extra_loss"].min() > -1e-6
    proposed = design(found, 1e11, 1e10, shapes=shapes)
    assert proposed.designed < proposed.half_width
    runs = proposed.runs
    assert set(runs.columns) == {"params", "images", "flops", "count"}
    np.testing.assert_allclose(runs["flops"], runs["params"] ** 1.5 * runs["images"], rtol=1e-9)
    assert set(np.sqrt(runs["params"]) % 4) == {0.0}  # models that there are


def test_plan_without_a_recipe_is_for_text(workdir: pathlib.Path) -> None:
    request = read(PlanRequest, {"fit": str(workdir / "fit"), "flops": 1e11})
    with pytest.raises(UserError, match=r"counts images, and --base=configs.lm tokens; .*--recipe"):
        plan_command(request, models_of)


def test_a_plan_for_digits_spends_its_budget(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    request = read(PlanRequest, {
        "fit": str(workdir / "fit"), "flops": 1e13, "recipe": "configs/vision.py:RECIPE",
        "sizes": "height=8,image_width=8,channels=1,classes=10", "out": str(tmp_path),
        "inference_units": 1e6,
    })  # fmt: skip
    text = plan_command(request, models_of).text
    assert "FLOPs as counted for the models of configs/vision.py:RECIPE" in text
    assert "images of inference" in text
    assert "token" not in text
    made = json.loads((tmp_path / "plan.json").read_text())
    assert made["images"]["low"] < made["images"]["value"] < made["images"]["high"]
    budgets = [1e13 / 4**k for k in (3, 2, 1, 0)]
    study = load_study(str(tmp_path / "ladder.py"))
    for i, (budget, config) in enumerate(zip(budgets, study.configs(), strict=True)):
        assert config == load_config(f"{tmp_path / 'ladder.py'}:{i}")
        run = resolve(override(config, {}))
        assert sizes.cost(run).unit == "image"
        one_step = run.train.batch_size * sizes.size(run).flops_per_unit
        assert units(run) * sizes.size(run).flops_per_unit == pytest.approx(budget, abs=one_step)
