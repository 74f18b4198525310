"""`launch.py plan` without its flags: a fit.json in, files and text out.

The shell (`scaling/commands/laws.py`) makes the `PlanRequest` and prints what `plan_command`
returns.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from scaling.errors import UserError
from scaling.laws import checks, planning
from scaling.laws.design import design
from scaling.laws.options import PlanRequest
from scaling.laws.outcome import Outcome, show, write
from scaling.laws.result import Fit
from scaling.laws.rungs import read_base, steps, study_file
from scaling.laws.rungs import rungs as ladder_of


def plan_command(asked: PlanRequest) -> Outcome:
    """The compute-optimal run of a budget of 6 x params x tokens, from a fit.json."""
    checks.check_plan(asked)
    fitted = _read_fit(asked.fit)
    flops, unique_tokens = asked.flops, asked.unique_tokens
    made = planning.plan(
        fitted,
        flops,
        inference_tokens=asked.inference_tokens,
        unique_tokens=unique_tokens,
        level=asked.level,
    )
    told = [
        f"{flops:.4g} training FLOPs ({planning.CONVENTION}), {fitted.law} fitted on {fitted.n} "
        "runs:",
        *(_line(n, getattr(made, n), made.level) for n in ("params", "tokens", "loss")),
        "\nthe same budget on another size", show(made.other_sizes),
    ]  # fmt: skip
    if made.inference:
        i = made.inference
        told.append(
            f"\nwith {asked.inference_tokens:.3g} tokens of inference: {i['params']:.4g} params on "
            f"{i['tokens']:.4g} tokens ({i['training_flops']:.3g} training FLOPs) reach the same "
            f"loss and save {i['saved']:.1%} of training plus inference"
        )
    told += [f"note: {n}" for n in made.notes]
    below = read_base(asked.base)
    ladder = ladder_of(
        fitted,
        flops,
        count=asked.rungs,
        vocab=asked.vocab or below.vocab,
        unique_tokens=unique_tokens,
    )
    told += ["\nladder", show(steps(ladder, below))]
    told.append(
        f"note: shape and tokens are the plan's; {below.said} are {below.module}'s at every size: "
        "give the rungs their own before you train large ones"
    )
    proposed = None
    if asked.design and asked.budget is not None:
        proposed = design(fitted, flops, asked.budget)
        told += [f"\n{proposed.sentence}", show(proposed.runs)]
    files = []
    if asked.out:
        folder = pathlib.Path(asked.out)
        values: Mapping[str, Any] = planning.summary(made)
        files.append(write(folder / "plan.json", json.dumps(values, indent=1, default=float)))
        study = write(folder / "ladder.py", study_file(ladder, below, flops, fitted.law))
        files.append(study)
        if proposed is not None:
            files.append(write(folder / "design.csv", proposed.runs.to_csv(index=False)))
    told += [f"wrote {f}" for f in files]
    if asked.out:
        sweep = f"python launch.py sweep --experiment={study}"
        told.append(f"check the ladder: {sweep} --dry_run\nrun it: {sweep}")
    return Outcome("\n".join(told), {"": fitted}, plan=made, design=proposed, files=tuple(files))


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
