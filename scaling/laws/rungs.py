"""A plan as runs: the rungs of a ladder, and the file that trains them.

Takes a `Fit`, the `Shapes` that the rungs are chosen among and the base config that they change;
gives overrides and the text of a file with `get_config` and `get_study`. Called by
`plan_command.py`; the command reads the base with `read_base` too.
"""

import importlib
import os
import pathlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling import place
from scaling.config import LENGTHS, RunConfig, amounts, choices, from_dict, override
from scaling.errors import UserError
from scaling.laws.measures import TOKEN
from scaling.laws.planning import check, no_minimum, optimum
from scaling.laws.result import Fit
from scaling.laws.shapes import FLOPS_PER, Shape, Shapes

TEXT = "configs.lm"  # the base where none is given


@dataclass(frozen=True)
class Base:
    """The config that a ladder changes."""

    module: str
    config: RunConfig

    @property
    def unit(self) -> str:
        """What its data are counted in."""
        return self.config.data.unit

    def said(self, overrides: Mapping[str, Any]) -> str:
        """What rungs of these overrides have from it (ending in a verb), and should choose."""
        c = self.config
        rate = f"learning rate {c.optim.peak_lr:g} (optim.peak_lr), "
        rows = f"rows of {c.data.units_per_example} {c.data.unit}s"
        step = f"{c.train.batch_size} {rows} a step (train.batch_size) and "
        rate = "" if "optim.peak_lr" in overrides else rate
        step = "" if "train.batch_size" in overrides else step
        verb = "are" if rate or step else "is"
        return f'{rate}{step}data "{c.data.source}" (data.source) {verb}'

    def by_rule(self, sizes: Mapping[str, float]) -> tuple[Any, str]:
        """params -> the model nearest to them by the rule of its family, and that rule in words.

        Args:
          sizes: of the data, by name, where the config leaves them open.

        Raises UserError for a family without a rule.
        """
        model: Any = self.config.model
        rule = choices.family(model).rule
        if rule is None or self.unit != TOKEN:
            raise UserError(
                f"--base={self.module}: there is no rule for models of model.family={model.family} "
                f"on {self.unit}s; give --recipe=module:NAME, a studies.ladder.Recipe that makes "
                "them"
            )

        def shape(params: float) -> Shape:
            overrides, count = rule.shape(model, params, sizes)
            return Shape(count, FLOPS_PER * count, overrides)

        return shape, rule.said


def read_base(name: str) -> Base:
    """A config's module ("configs.lm") or its path from here ("configs/lm.py"), read.

    Raises UserError when it is none.
    """
    wrong = f"--base={name} is no config; give one's module or path, e.g. configs.lm, configs/lm.py"
    found = imported(name)
    if found is None or not hasattr(found, "get_config"):
        raise UserError(wrong)
    return Base(found.__name__, from_dict(found.get_config("")))


def imported(name: str) -> Any:
    """A module by its name or its path from here; None: there is none."""
    module = name
    if name.endswith(".py"):
        module = ".".join(pathlib.PurePath(os.path.relpath(name)).with_suffix("").parts)
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    place.importable()
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def rungs(
    fitted: Fit,
    flops: float,
    base: Base,
    shapes: Shapes,
    *,
    count: int = 4,
    step: float = 4.0,
    unique: float | None = None,
) -> list[dict[str, Any]]:
    """Config overrides of a ladder that ends at the plan: `count` compute-optimal runs, budgets a
    factor `step` apart, all of them from `unique` distinct units where these are given.

    Each is the nearest model that there is; its data are what is left of the budget at that size.

    Raises UserError for no rungs, or a law without an optimum.
    """
    check(fitted)
    if count < 1:
        raise UserError(f"--rungs={count}: a ladder has at least one rung")
    length = "train.tokens" if base.unit == TOKEN else "train.units"
    out = []
    for k in reversed(range(count)):
        budget = flops / step**k
        place, _ = optimum(fitted, budget, shapes=shapes, unique=unique)
        if not np.isfinite(place):
            raise UserError(f"--rungs={count}: {no_minimum(fitted, budget, shapes)}")
        shape = shapes.nearest(float(np.exp(place)))
        out.append({
            **shape.overrides,
            # Whatever length the base config gives, this one takes its place.
            **{f"train.{name}": None for name in LENGTHS},
            length: float(f"{budget / shape.flops_per_unit:.4g}"),
            **({} if unique is None else {amounts.unique_field(base.config.data): int(unique)}),
        })  # fmt: skip
    return out


def steps(ladder: list[dict[str, Any]], base: Base) -> pd.DataFrame:
    """What each rung is: its model, its amount of data, and the steps that its batches make of it.
    Raises ConfigError for a base that has no such fields.
    """
    rows = []
    for i, rung in enumerate(ladder):
        config = override(base.config, rung)
        amount = rung["train.tokens"] or rung["train.units"]
        model = {k.removeprefix("model."): v for k, v in rung.items() if k.startswith("model.")}
        rows.append({
            "rung": i, **{k: v for k, v in model.items() if v is not None},
            f"{base.unit}s": amount, "steps": round(amount / amounts.units_per_step(config)),
        })  # fmt: skip
    return pd.DataFrame(rows)


FILE = '''"""Compute-optimal runs up to {flops:.3g} FLOPs, planned with {law}.

{convention}.
{rule}
Rungs 0 to {last}, smallest first:

    python launch.py sweep --experiment=FILE --dry_run
    python launch.py sweep --experiment=FILE
    python launch.py train --config=FILE:<rung>

Shape and {unit}s are the plan's; {said}
{base}'s at every size, as all else.
Give the rungs their own below before you train large ones.
"""

import ml_collections

import {base} as base
from scaling.config.sweep import Study

RUNGS: list[dict] = [
{rungs}
]


def get_config(arg: str = "0") -> ml_collections.ConfigDict:
    """One rung."""
    config = base.get_config("")
    config.update_from_flattened_dict(RUNGS[int(arg or 0)])
    return config


def get_study(arg: str = "") -> Study:
    """All rungs; arg is the base's."""
    return Study(
        name="{name}",
        question="Does the loss fall along the compute-optimal ladder as {law} says?",
        base=base.get_config(arg),
        runs=RUNGS,
        x="flops",
    )
'''


def study_file(
    ladder: list[dict[str, Any]], base: Base, shapes: Shapes, flops: float, law: str, rule: str
) -> str:
    """Text of a file for `launch.py train --config=FILE:<rung>` and `sweep --experiment=FILE`.

    `rule` says in a sentence where the shapes come from.
    """
    return place.called(FILE).format(
        flops=flops, law=law, convention=shapes.convention, last=len(ladder) - 1, base=base.module,
        unit=base.unit,
        said=base.said(ladder[0]).replace("(optim.peak_lr), ", "(optim.peak_lr),\n"),
        rule=textwrap.fill(rule[0].upper() + rule[1:] + ".", 100),
        rungs="\n".join(f"    {r!r}," for r in ladder),
        name=f"plan-{flops:.3g}".replace(".", "_").replace("+", ""),
    )  # fmt: skip
