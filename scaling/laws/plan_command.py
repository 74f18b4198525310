"""`launch.py plan` without its flags: a fit.json in, files and text out.

The shell (`scaling/commands/laws.py`) makes the `PlanRequest` and prints what `plan_command`
returns.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scaling.errors import UserError
from scaling.laws import checks, planning
from scaling.laws.design import design
from scaling.laws.options import PlanRequest
from scaling.laws.outcome import Outcome, show, write
from scaling.laws.result import Fit
from scaling.laws.rungs import TEXT, Base, read_base, rungs, steps, study_file
from scaling.laws.shapes import ByFormula, ByWidth, Shape
from scaling.place import program


@dataclass(frozen=True)
class Models:
    """What a recipe makes, as the command has found it."""

    name: str  # of the recipe, as typed
    base: Base
    shape: Callable[[int], Shape]  # width -> its model
    step: int  # of the widths


def plan_command(
    asked: PlanRequest, models_of: Callable[[PlanRequest], Models] | None = None
) -> Outcome:
    """The compute-optimal run of a budget, from a fit.json: among the models of a recipe, which
    `models_of` finds, or by 6 x params x tokens and the rule of the base's family.
    """
    checks.check_plan(asked)
    fitted = _read_fit(asked.fit)
    flops, bought = _budget(asked, fitted)
    models = models_of(asked) if models_of and asked.recipe else None
    base, shapes, rule = _shapes(asked, fitted, models, flops)
    made = planning.plan(
        fitted,
        flops,
        shapes=shapes,
        inference=asked.inference_units,
        unique=asked.unique_units,
        level=asked.level,
    )
    unit = f"{made.unit}s"
    told = [
        *bought,
        f"{flops:.4g} training FLOPs ({made.convention}), {fitted.law} fitted on {fitted.n} runs:",
        _line("params", made.params, made.level),
        _line(unit, made.amount, made.level),
        _line(fitted.loss, made.loss, made.level),
        "\nthe same budget on another size",
        show(made.other_sizes.rename(columns={"amount": unit})),
    ]
    if made.inference:
        i = made.inference
        told.append(
            f"\nwith {asked.inference_units:.3g} {unit} of inference: {i['params']:.4g} params on "
            f"{i['amount']:.4g} {unit} ({i['training_flops']:.3g} training FLOPs) reach the same "
            f"loss and save {i['saved']:.1%} of training plus inference"
        )
    told += [f"note: {n}" for n in made.notes]
    ladder = rungs(fitted, flops, base, shapes, count=asked.rungs, unique=asked.unique_units)
    told += ["\nladder", show(steps(ladder, base)), f"note: {rule}"]
    told.append(
        f"note: shape and {unit} are the plan's; {base.said(ladder[0])} {base.module}'s at every "
        "size: give the rungs their own before you train large ones"
    )
    proposed = None
    if asked.design and asked.budget is not None:
        proposed = design(fitted, flops, asked.budget, shapes=shapes)
        told += [f"\n{proposed.sentence}", show(proposed.runs)]
    files = []
    if asked.out:
        folder = pathlib.Path(asked.out)
        values: Mapping[str, Any] = planning.summary(made)
        files.append(write(folder / "plan.json", json.dumps(values, indent=1, default=float)))
        text = study_file(ladder, base, shapes, flops, fitted.law, rule)
        study = write(folder / "ladder.py", text)
        files.append(study)
        if proposed is not None:
            files.append(write(folder / "design.csv", proposed.runs.to_csv(index=False)))
    told += [f"wrote {f}" for f in files]
    if asked.out:
        sweep = f"{program()} sweep --experiment={study}"
        told.append(f"check the ladder: {sweep} --dry_run\nrun it: {sweep}")
    return Outcome("\n".join(told), {"": fitted}, plan=made, design=proposed, files=tuple(files))


def _budget(asked: PlanRequest, fitted: Fit) -> tuple[float, list[str]]:
    """The budget in FLOPs, and a line on what a joule buys. Raises UserError where nobody says."""
    if asked.joules is None:
        return asked.flops or 0.0, []
    each, by = asked.flops_per_joule, "as given"
    if each is None:
        each, by = fitted.flops_per_joule, "as in the larger half of the fitted runs"
    if each is None:
        raise UserError(
            f"--joules: the table of --fit={asked.fit} had no columns flops and joules that say "
            "what a joule buys; give --flops_per_joule"
        )
    line = f"{asked.joules:.4g} J at {each:.3g} FLOPs a joule, {by}:"
    return asked.joules * each, [line]


def _shapes(
    asked: PlanRequest, fitted: Fit, models: Models | None, flops: float
) -> tuple[Base, ByFormula | ByWidth, str]:
    """The base, the models to choose among, and a sentence on where they come from.

    Raises UserError for a fit in another unit than the base's.
    """
    base = read_base(asked.base or TEXT) if models is None else models.base
    if fitted.unit is not None and fitted.unit != base.unit:
        raise UserError(
            f"--fit={asked.fit} counts {fitted.unit}s, and --base={base.module} {base.unit}s; give "
            f"--recipe and --base of models that are trained on {fitted.unit}s"
        )
    if models is None:
        shape, said = base.by_rule(asked.sizes)
        return base, ByFormula(shape), f"shapes by rule: {said}; --recipe gives your own models"
    shapes = ByWidth(models.shape, models.step, unit=base.unit, name=models.name, flops=flops)
    return base, shapes, f"shapes, learning rate and batch by {models.name}"


def _read_fit(fit: str) -> Fit:
    """The fit of --fit, whole and with intervals."""
    path = pathlib.Path(fit)
    path = path / "fit.json" if path.is_dir() else path
    try:
        fitted = Fit.from_json(path.read_text())
    except OSError:
        raise UserError(
            f"--fit={path}: no such fit; `launch.py fit --out=DIR` writes one"
        ) from None
    except (UserError, ValueError) as e:
        raise UserError(f"--fit={path}: {e}") from None
    if not len(fitted.samples):
        raise UserError(f"--fit={path}: {fitted.why_no_draws()}")
    try:
        planning.check(fitted)
    except UserError as e:
        raise UserError(f"--fit={path}: {e}") from None
    return fitted


def _line(name: str, estimate: planning.Estimate, level: float) -> str:
    low, high = f"{estimate.low:.4g}", f"{estimate.high:.4g}"
    return f"  {name} {estimate.value:.4g}  {level:.0%} interval [{low}, {high}]"
