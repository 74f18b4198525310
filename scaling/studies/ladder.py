"""Recipes that turn one width into a whole run, and the ladders made of them.

`Recipe` turns a width into a model of that width (as its family scales it), depth,
batch and learning rate, as overrides for `config.override`; `isoflop` and `chinchilla` are ladders
of such rungs. Studies in `experiments/` call them. No jax in this file.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.config import LENGTHS, RunConfig, choices, override
from scaling.config.checks import DEEP
from scaling.config.contracts import Facts, Size
from scaling.config.resolve import source_named
from scaling.costs import sizes
from scaling.data import describe
from scaling.errors import ConfigError, DataError

Override = dict[str, Any]  # dotted config field -> value, for `config.override`


@dataclass(frozen=True)
class Recipe:
    """One width in, a whole run out: how everything else grows with the model."""

    # Fields of the base's model that set its proportions, such as {"head_dim": 16}: how a model of
    # another width follows from them is the family's (`Family.scaled`).
    model: Mapping[str, Any] = field(default_factory=dict)
    aspect: float = 32.0  # width / depth
    min_depth: int = 2
    base_width: int = 128  # the width at which lr and batch_size below hold
    lr: float = 3e-3  # peak learning rate at base_width
    lr_exponent: float = -0.5  # learning rate ~ width ^ exponent
    batch_size: int = 32  # rows (windows, images) a step at base_width
    batch_exponent: float = 0.0  # rows ~ width ^ exponent, rounded to a power of 2; 0: constant
    units_per_param: float = 20.0  # Hoffmann et al. 2022 (Chinchilla), table 3: about 20 tokens
    # How rates and initial scales follow the shape, from that of base_width on
    parametrization: str = "standard"

    def rung(self, width: int, base: RunConfig | None = None) -> Override:
        """The overrides of the run of this width, of length `units_per_param`.

        The model is in proportion as in `base`; None: as a config's defaults. Raises ConfigError
        for a width that its family cannot have.
        """
        return self.shape(width, base) | _per_param(base or RunConfig(), self.units_per_param)

    def shape(self, width: int, base: RunConfig | None = None) -> Override:
        """`rung` without a length."""
        base = base or RunConfig()
        scale, model = width / self.base_width, self.base_model(base)
        depth = max(self.min_depth, round(width / self.aspect))
        batch_size = self.batch_size
        if self.batch_exponent:
            batch_size = 2 ** max(0, round(math.log2(batch_size * scale**self.batch_exponent)))
        return {
            **choices.family(model).scaled(model, width, depth),
            **self.parametrized(),
            "optim.peak_lr": self.lr * scale**self.lr_exponent,
            "train.batch_size": batch_size,
        }

    def parametrized(self) -> Override:
        """Its parametrization, at any shape; nothing for "standard", whose runs are what they were
        before there were others.
        """
        if self.parametrization == "standard":
            return {}
        found: Override = {
            "optim.parametrization": self.parametrization,
            "optim.base_width": self.base_width,
        }
        if self.parametrization in DEEP:
            found["optim.base_depth"] = max(self.min_depth, round(self.base_width / self.aspect))
        return found

    def base_model(self, base: RunConfig) -> Any:
        """The model whose proportions the rungs have."""
        changed = {f"model.{name}": value for name, value in self.model.items()}
        return override(base, changed).model


def _per_param(base: RunConfig, amount: float) -> Override:
    """A length in units a parameter, in the words of the data."""
    return _length("tokens_per_param" if base.data.unit == "token" else "units_per_param", amount)


def isoflop(
    recipe: Recipe,
    widths: Sequence[int],
    budgets: Sequence[float],
    base: RunConfig | None = None,
) -> list[Override]:
    """Every width at every budget of training FLOPs: models of all sizes for the same money
    (Hoffmann et al. 2022, approach 2). The budgets vary slowest. `base` as in `Recipe.rung`.
    """
    return [
        recipe.shape(width, base or RunConfig()) | _length("flops", float(budget))
        for budget in budgets
        for width in widths
    ]


def chinchilla(
    recipe: Recipe, base: RunConfig, facts: Facts, budgets: Sequence[float]
) -> list[Override]:
    """For every budget of training FLOPs the width, a multiple of the family's `width_step`, that
    spends it at nearest to `units_per_param` units a parameter. `base` gives the proportions
    (`Recipe.rung`) and the other fields, `facts` the sizes of the data.

    Raises ConfigError for a budget below that of the smallest such width.
    """
    step = width_step(recipe, base)

    @functools.cache
    def compute(width: int) -> float:
        """Training FLOPs of the recipe's rung."""
        counts = size_of(recipe, width, base, facts)
        return counts.flops_per_unit * counts.params * recipe.units_per_param

    overrides = []
    for budget in budgets:
        if budget < compute(step) / 2:
            raise ConfigError(
                f"a budget of {budget:.2g} FLOPs is too small for a model of width {step}; raise "
                "it, or make the recipe's steps of width smaller"
            )
        below = step
        while compute(below + step) <= budget:
            below += step
        width = min((below, below + step), key=lambda w: abs(math.log(compute(w) / budget)))
        overrides.append(recipe.shape(width, base) | _length("flops", float(budget)))
    return overrides


def width_step(recipe: Recipe, base: RunConfig) -> int:
    """The widths that a ladder tries are its multiples."""
    model = recipe.base_model(base)
    return choices.family(model).width_step(model)


def size_of(recipe: Recipe, width: int, base: RunConfig, facts: Facts) -> Size:
    """Parameters and FLOPs a unit of the recipe's model of this width, on data of these sizes.

    Raises ConfigError for a width that its family cannot have.
    """
    config = override(base, recipe.shape(width, base))
    model, data = choices.family(config.model), choices.kind(config.data)
    return sizes.size(
        dataclasses.replace(
            config,
            model=model.resolve(config.model, facts),
            data=data.resolve(config.data, facts),
        )
    )


def facts_of(base: RunConfig, given: Mapping[str, float] | None = None) -> Facts:
    """The sizes of the data that models are built for: those `given`, those that the base's model
    states, or those of its data, which are then prepared.

    Raises DataError where the data are not there, and names the flag that gives their sizes.
    """
    stated = choices.stated(base.model, base.data)
    if given or stated is not None:
        endless, known = 10**15, dict(stated or {}) | {k: int(v) for k, v in (given or {}).items()}
        return Facts("", endless, endless, known)
    try:
        with source_named("data"):
            return describe(base.data)
    except DataError as error:
        raise DataError(
            f"{error}; or give the sizes that the model is built for, as --sizes=NAME=NUMBER,..."
        ) from None


def _length(name: str, amount: float) -> Override:
    """One training length, and none of the others that the base config may have."""
    return {f"train.{other}": amount if other == name else None for other in LENGTHS}
