"""A plan as runs: the rungs of a ladder, and the file that trains them.

Takes a `Fit` and the base config that the rungs change; gives overrides and the text of a file with
`get_config` and `get_study`. Called by `plan_command.py`.
"""

import importlib
import os
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.config import LENGTHS, RunConfig, amounts, from_dict, override
from scaling.errors import UserError
from scaling.laws.planning import CONVENTION, FLOPS_PER, check, optimum
from scaling.laws.result import Fit

BYTES = 257  # vocabulary of a base that leaves it to its data: bytes and a separator


@dataclass(frozen=True)
class Base:
    """The config that a ladder changes."""

    module: str
    config: RunConfig

    @property
    def vocab(self) -> int:
        """Its vocabulary, as far as it is stated."""
        model: Any = self.config.model
        return model.vocab or BYTES

    @property
    def step_tokens(self) -> int:
        """Tokens a step."""
        return amounts.units_per_step(self.config)

    @property
    def said(self) -> str:
        """What the rungs have from it and ought to have of their own."""
        c = self.config
        return (
            f"learning rate {c.optim.peak_lr:g} (optim.peak_lr), {c.train.batch_size} windows of "
            f"{c.data.units_per_example} tokens a step (train.batch_size, data.seq_len) and data "
            f'"{c.data.source}" (data.source)'
        )


def read_base(name: str) -> Base:
    """A config's module ("configs.lm") or its path from here ("configs/lm.py"), read.

    Raises UserError when it is none.
    """
    wrong = f"--base={name} is no config; give one's module or path, e.g. configs.lm, configs/lm.py"
    module = name
    if name.endswith(".py"):
        module = ".".join(pathlib.PurePath(os.path.relpath(name)).with_suffix("").parts)
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(wrong)
    try:
        found = importlib.import_module(module)
    except ImportError:
        raise UserError(wrong) from None
    if not hasattr(found, "get_config"):
        raise UserError(wrong)
    return Base(module, from_dict(found.get_config("")))


def rungs(
    fitted: Fit,
    flops: float,
    *,
    count: int = 4,
    step: float = 4.0,
    vocab: int = BYTES,
    unique_tokens: float | None = None,
) -> list[dict[str, Any]]:
    """Config overrides of a ladder that ends at the plan: `count` compute-optimal runs, budgets a
    factor `step` apart, all of them from `unique_tokens` where these are given.

    Width and depth by the closed formula 12 depth width^2 + vocab width, depth about width / 64,
    heads of about 64 channels; tokens are what is left of the budget at the size that results.

    Raises UserError for no rungs, or a law without an optimum.
    """
    check(fitted)
    if count < 1:
        raise UserError(f"--rungs={count}: a ladder has at least one rung")
    out = []
    for k in reversed(range(count)):
        budget = flops / step**k
        place, _ = optimum(fitted, budget, unique_tokens=unique_tokens)
        if not np.isfinite(place):
            raise UserError(
                f"--rungs={count}: {fitted.law} has no optimum over params at {budget:g} FLOPs"
            )
        width, depth, params = shape_of(float(np.exp(place)), vocab)
        out.append({
            "model.width": width, "model.depth": depth, "model.heads": heads_of(width),
            # Whatever length the base config gives, this one takes its place.
            **{f"train.{name}": None for name in LENGTHS},
            "train.tokens": float(f"{budget / FLOPS_PER / params:.4g}"),
            **({} if unique_tokens is None else {"data.unique_tokens": int(unique_tokens)}),
        })  # fmt: skip
    return out


def shape_of(params: float, vocab: int) -> tuple[int, int, int]:
    """Width, depth and params of the shape whose params are nearest to `params`."""
    best, gap = (0, 0, 0), np.inf
    for width in [*range(16, 64, 16), *range(64, 512, 32), *range(512, 20_001, 64)]:
        for depth in {max(1, round(width / 64 * f)) for f in (0.75, 1.0, 1.25)}:
            count = 12 * depth * width**2 + vocab * width
            if abs(np.log(count / params)) < gap:
                best, gap = (width, depth, count), abs(np.log(count / params))
    return best


def heads_of(width: int) -> int:
    """Heads of about 64 channels that divide the width into even parts."""
    wanted = range(max(1, width // 64), 0, -1)
    return next(h for h in wanted if width % h == 0 and (width // h) % 2 == 0)


def steps(ladder: list[dict[str, Any]], base: Base) -> pd.DataFrame:
    """What each rung is: width, depth, heads, tokens, and the steps that the base's batch makes
    of them. Raises ConfigError for a base that has no such fields.
    """
    rows = []
    for i, rung in enumerate(ladder):
        config = override(base.config, rung)
        shape: Any = config.model
        tokens = rung["train.tokens"]
        rows.append({
            "rung": i, "width": shape.width, "depth": shape.depth, "heads": shape.heads,
            "tokens": tokens, "steps": round(tokens / base.step_tokens),
        })  # fmt: skip
    return pd.DataFrame(rows)


FILE = '''"""Compute-optimal runs up to {flops:.3g} FLOPs, planned with {law}.

{convention}. Rungs 0 to {last}, smallest first:

    python launch.py sweep --experiment=FILE --dry_run
    python launch.py sweep --experiment=FILE
    python launch.py train --config=FILE:<rung>

Shape and tokens are the plan's. All else is {base}'s at every size:
{said}.
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


def study_file(ladder: list[dict[str, Any]], base: Base, flops: float, law: str) -> str:
    """Text of a file for `launch.py train --config=FILE:<rung>` and `sweep --experiment=FILE`."""
    return FILE.format(
        flops=flops, law=law, convention=CONVENTION, last=len(ladder) - 1, base=base.module,
        said=base.said.replace(", ", ",\n", 1), rungs="\n".join(f"    {r!r}," for r in ladder),
        name=f"plan-{flops:.3g}".replace(".", "_").replace("+", ""),
    )  # fmt: skip
