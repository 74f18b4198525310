"""Ladders of every registered family: rungs resolve, budgets are spent, widths are the nearest."""

import math

import pytest

from scaling.config import LENGTHS, RunConfig, base_config, choices, from_dict, override
from scaling.config.amounts import units, units_per_step
from scaling.config.contracts import Facts
from scaling.config.resolve import resolve
from scaling.costs import sizes
from scaling.errors import ConfigError, DataError
from scaling.studies import ladder

SIZES = {
    "vocab": 257, "height": 8, "image_width": 8, "channels": 1, "classes": 10, "features": 24,
    "targets": 3, "source_len": 10, "target_len": 20, "samples": 8000, "sample_rate": 8000,
    "transcript_len": 12, "text_len": 12, "samples_per_token": 800,
    "entities": 40, "relations": 5,
}  # fmt: skip
FACTS = Facts("planned", 10**9, 10**9, SIZES)
DEEP = ladder.Recipe(batch_size=8, batch_exponent=0.5, base_width=64, units_per_param=5.0)
FLAT = ladder.Recipe(aspect=math.inf, min_depth=1, batch_size=8, base_width=64, units_per_param=5.0)
# A family of one layer has no ladder in depth.
RECIPES = dict.fromkeys(("random_features", "transe", "distmult"), FLAT)


def bases() -> dict[str, RunConfig]:
    """A run of every family on the first kind of data, and with the first objective, that it takes.

    A family that is registered without one fails here: nothing trains it.
    """
    found = {}
    for family in choices.registry("model"):
        for kind in choices.registry("data"):
            for objective in choices.registry("objective"):
                base = from_dict(base_config(family, kind, objective))
                base = override(base, {"train.steps": 1})
                try:
                    resolve(base, lambda data, train: FACTS, sizes.size)
                except ConfigError:
                    continue
                found.setdefault(family, base)
    assert found.keys() == choices.registry("model").keys()
    return found


BASES = bases()


@pytest.fixture(params=sorted(BASES))
def base(request: pytest.FixtureRequest) -> RunConfig:
    return BASES[request.param]


def recipe_of(base: RunConfig) -> ladder.Recipe:
    return RECIPES.get(base.model.family, DEEP)


def resolved(base: RunConfig, overrides: dict) -> RunConfig:
    return resolve(override(base, overrides), lambda data, train: FACTS, sizes.size)


def lengths(config: RunConfig) -> list[str]:
    return [name for name in LENGTHS if getattr(config.train, name) is not None]


def widths_of(base: RunConfig) -> list[int]:
    step = ladder.width_step(recipe_of(base), base)
    return [step * k for k in (1, 2, 3, 8)]


def test_rungs_are_runs(base):
    recipe, params = recipe_of(base), []
    for width in widths_of(base):
        rung = recipe.rung(width, base)
        word = "tokens_per_param" if base.data.unit == "token" else "units_per_param"
        assert lengths(override(base, rung)) == [word]
        run = resolved(base, rung)
        size = sizes.size(run)
        assert (run.model.width, run.model.family) == (width, base.model.family)
        assert run.model.depth == max(recipe.min_depth, round(width / recipe.aspect))
        assert abs(units(run) - recipe.units_per_param * size.params) <= units_per_step(run)
        # What a plan counts before anything is resolved is what the run is.
        assert ladder.size_of(recipe, width, base, FACTS) == size
        params.append(size.params)
    assert params == sorted(set(params))


def test_an_isoflop_grid_spends_its_budgets(base):
    recipe, widths = recipe_of(base), widths_of(base)
    steps = resolved(base, recipe.shape(widths[-1], base) | {"train.steps": 1})
    one = sizes.step_flops(steps)
    budgets = (200 * one, 1000 * one)
    runs = ladder.isoflop(recipe, widths, budgets, base)
    assert [run["model.width"] for run in runs] == widths * 2
    for budget, overrides in zip([b for b in budgets for _ in widths], runs, strict=True):
        run = resolved(base, overrides)
        assert abs(sizes.cost(run).flops - budget) <= 0.51 * sizes.step_flops(run)


def test_chinchilla_takes_the_nearest_width(base):
    recipe = recipe_of(base)
    step = ladder.width_step(recipe, base)

    def asked(width: int) -> float:
        """FLOPs of `units_per_param` units a parameter."""
        size = sizes.size(resolved(base, recipe.rung(width, base)))
        return size.flops_per_unit * size.params * recipe.units_per_param

    budgets = [asked(step) * factor for factor in (1.0, 7.0, 300.0)]
    runs = ladder.chinchilla(recipe, base, FACTS, budgets)
    for budget, overrides in zip(budgets, runs, strict=True):
        width, gap = (
            overrides["model.width"],
            abs(math.log(asked(overrides["model.width"]) / budget)),
        )
        for other in (width - step, width + step):
            assert other <= 0 or gap <= abs(math.log(asked(other) / budget))
        run = resolved(base, overrides)
        assert abs(sizes.cost(run).flops - budget) <= 0.51 * sizes.step_flops(run)
    with pytest.raises(ConfigError, match="too small"):
        ladder.chinchilla(recipe, base, FACTS, [asked(step) / 3])


def test_the_sizes_of_data_come_from_the_config_the_flag_or_the_data(tmp_path):
    text = BASES["transformer"]
    stated = override(text, {"model.vocab": 300})
    assert ladder.facts_of(stated).sizes == {"vocab": 300}
    assert ladder.facts_of(text, {"vocab": 50.0}).sizes == {"vocab": 50}
    vectors = from_dict(base_config("mlp", "vectors", "regression"))
    assert ladder.facts_of(vectors).sizes == {"features": 1024, "targets": 1}
    absent = override(text, {"data.source": f"text:{tmp_path}/none-*"})
    with pytest.raises(DataError, match=r"data\.source.*--sizes="):
        ladder.facts_of(absent)
