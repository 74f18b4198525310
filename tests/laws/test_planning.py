"""Plans agree with the closed form, and designs shrink what they promise to shrink."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.families.transformer.rule import shape_of
from scaling.laws import Fit, Options, fit
from scaling.laws.design import design
from scaling.laws.isoflop import parametric, side_by_side
from scaling.laws.planning import Plan, plan
from scaling.laws.rungs import read_base, rungs, study_file
from scaling.laws.shapes import ByFormula
from scaling.studies.study import load_config, load_study


@pytest.fixture(scope="module")
def found(chinchilla_240: pd.DataFrame) -> Fit:
    """The published table, fitted."""
    return fit(chinchilla_240, "chinchilla", Options(bootstrap=200))


def law_at(found: Fit, made: Plan) -> float:
    """The law's value at a plan; its loss is that of a run, which may depart from the law."""
    at = {"params": made.params.value, "tokens": made.amount.value}
    return float(found.draws(at)[0][0])


def test_plan_is_the_closed_form_optimum(found: Fit) -> None:
    for flops in (1e19, 1e21, 1e24):
        made = plan(found, flops)
        params, tokens = (parametric(found, q).at(flops) for q in ("params", "tokens"))
        assert made.params.value == pytest.approx(params[0], rel=1e-3)
        assert made.amount.value == pytest.approx(tokens[0], rel=1e-3)
        assert made.params.low == pytest.approx(params[1], rel=1e-2)
        assert made.params.high == pytest.approx(params[2], rel=1e-2)
        assert 6 * made.params.value * made.amount.value == pytest.approx(flops)


def test_other_sizes_lose(found: Fit) -> None:
    other = plan(found, 1e21).other_sizes
    assert (other.extra_loss >= 0).all()
    middle = other.params_multiple == 1
    assert other.flops_wasted[middle].item() == pytest.approx(0, abs=1e-6)
    # Spending what is not wasted at the optimum gives the same loss.
    row = other.iloc[0]
    kept = 1e21 * (1 - row.flops_wasted)
    assert law_at(found, plan(found, kept)) == pytest.approx(row.loss, rel=1e-4)


def test_inference_makes_models_smaller_and_longer_trained(found: Fit) -> None:
    plain, paid = plan(found, 1e21), plan(found, 1e21, inference=1e12)
    assert paid.inference is not None
    assert paid.inference["params"] < plain.params.value
    assert paid.inference["amount"] > plain.amount.value
    assert paid.inference["training_flops"] > 1e21
    assert 0 < paid.inference["saved"] < 1
    at = {"params": paid.inference["params"], "tokens": paid.inference["amount"]}
    assert found.draws(at)[0][0] == pytest.approx(law_at(found, plain), rel=1e-4)


def test_far_extrapolation_is_said(found: Fit) -> None:
    assert any("above the runs that were fitted" in note for note in plan(found, 1e26).notes)


def test_plan_refuses_a_law_without_tokens(chinchilla_240: pd.DataFrame) -> None:
    one = fit(chinchilla_240, "compute", Options(bootstrap=0))
    with pytest.raises(UserError, match="needs a law of params and tokens"):
        plan(one, 1e21)


def test_design_beats_now_and_the_even_grid(found: Fit) -> None:
    made = design(found, target_flops=1e24, budget=1e22)
    assert made.designed < made.half_width
    assert made.designed <= made.even
    assert (made.runs.flops * made.runs["count"]).sum() <= 1e22 * (1 + 1e-9)
    assert made.even_runs.flops.sum() == pytest.approx(1e22)


@pytest.mark.slow
def test_designed_runs_do_shrink_the_interval(found: Fit, chinchilla_240: pd.DataFrame) -> None:
    """Simulate the proposed runs from the fit, refit, and see the interval shrink as promised."""
    made = design(found, target_flops=1e24, budget=1e23)
    repeated = made.runs.loc[made.runs.index.repeat(made.runs["count"])]
    noise = np.random.default_rng(0).normal(size=len(repeated))
    loss = found.draws(repeated)[0] * np.exp(found.noise.sd * noise)
    both = pd.concat([chinchilla_240, repeated.assign(loss=loss)], ignore_index=True)
    after = fit(both, "chinchilla", Options(bootstrap=200))
    params = parametric(found).at(1e24)[0]
    target = {"params": [params], "tokens": [1e24 / 6 / params]}

    def half(one: Fit) -> float:
        """Of an interval of the loss but for noise: doubt about parameters and form."""
        known = one.forecast.mixed(one.raw_of(target), one.columns_of(target))
        return float(1.645 * np.sqrt(known.parameters + known.form)[0])

    assert half(found) == pytest.approx(made.half_width, rel=0.05)
    assert half(after) < half(found)
    assert half(after) == pytest.approx(made.designed, rel=0.5)


def test_rungs_make_configs_and_a_study_that_load(found: Fit, tmp_path: pathlib.Path) -> None:
    base = read_base("configs/lm.py")
    shape, rule = base.by_rule({})
    shapes = ByFormula(shape)
    ladder = rungs(found, 1e17, base, shapes)
    path = tmp_path / "ladder.py"
    path.write_text(study_file(ladder, base, shapes, 1.5e17, "chinchilla", rule))
    configs = [load_config(f"{path}:{i}") for i in range(len(ladder))]
    widths = [config.model.width for config in configs]
    assert widths == sorted(widths)
    assert configs[3].train.steps is None
    assert configs[3].model.width % configs[3].model.heads == 0
    study = load_study(str(path))
    assert study.name == "plan-1_5e17"
    assert study.configs() == configs


def test_a_ladder_that_nobody_can_run_is_refused(found: Fit) -> None:
    for base in ("configs.nope", "configs/nope.py", "/configs.py", "os", "configs.lm:debug", ""):
        with pytest.raises(UserError, match=r"--base=.* is no config"):
            read_base(base)
    base = read_base("configs/dense.py")
    shapes = ByFormula(base.by_rule({})[0])
    # Its own vocabulary is in the params.
    assert shapes.nearest(1e8).params > 32_768 * shapes.nearest(1e8).overrides["model.width"]
    with pytest.raises(UserError, match="--rungs=0"):
        rungs(found, 1e17, base, shapes, count=0)
    with pytest.raises(UserError, match=r"--base=configs.vision: .*give --recipe"):
        read_base("configs.vision").by_rule({})


def test_a_law_without_unique_tokens_does_not_plan_with_them(found: Fit) -> None:
    with pytest.raises(UserError, match="chinchilla reads only params, tokens"):
        plan(found, 1e21, unique=1e9)


@pytest.mark.parametrize("params", [3e5, 1e7, 1e9, 1e11])
def test_shapes_are_near_the_params_asked_for(params: float) -> None:
    assert shape_of(params, vocab=257)[2] == pytest.approx(params, rel=0.35)


def test_three_approaches_side_by_side() -> None:
    """On runs of a known law in exact isoFLOP slices, every approach finds its exponent."""
    rows = []
    truth = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.34, "beta": 0.38}
    rng = np.random.default_rng(0)
    for flops in 1e18 * 4.0 ** np.arange(6):
        ratio = truth["alpha"] * truth["A"] / (truth["beta"] * truth["B"])
        best = ratio ** (1 / 0.72) * (flops / 6) ** (0.38 / 0.72)
        for params in best * np.geomspace(1 / 6, 6, 9):
            tokens = flops / 6 / params
            loss = 1.8 + 480 * params**-0.34 + 2000 * tokens**-0.38
            rows.append((params, tokens, flops, loss * np.exp(0.001 * rng.normal())))
    table = pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])
    found = side_by_side(table, approaches=("2", "2p", "3"))
    params = found[found.quantity == "params"]
    np.testing.assert_allclose(params.exponent, 0.38 / 0.72, atol=0.06)
    assert ((params.low < 0.38 / 0.72) & (params.high > 0.38 / 0.72)).sum() >= 2


def rows_at(ratios, exact=1.0):
    """Twelve sizes by Chinchilla's own law, each at these numbers of tokens a parameter."""
    params = np.repeat(np.geomspace(1e7, 1e9, 12), len(ratios))
    tokens = params * np.tile(ratios, 12) * exact ** np.resize([1, -1, 1], len(params))
    loss = 1.7 + 406.4 / params**0.34 + 410.7 / tokens**0.28
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


@pytest.mark.parametrize("exact", [1.0, 1.02])
def test_where_tokens_follow_parameters_the_fit_says_so_and_plans_nothing(exact):
    found = fit(rows_at([20.0], exact), "chinchilla", Options(bootstrap=20))
    assert any(flag.startswith("tokens follow params in all rows") for flag in found.flags)
    with pytest.raises(UserError, match="nothing says how the two share a budget"):
        plan(Fit.from_json(found.to_json()), 1e21)


@pytest.mark.parametrize("ratios", [[20.0, 40.0], [20.0, 23.0]])
def test_other_ratios_tell_them_apart(ratios):
    found = fit(rows_at(ratios), "chinchilla", Options(bootstrap=20))
    assert not any("follow params" in flag for flag in found.flags)
    assert plan(found, 1e21).params.value > 0
