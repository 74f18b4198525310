"""`launch.py fit` and `launch.py plan` without their flags: files in, files and text out.

`launch.py` turns flags into the plain arguments of `fit_command` and `plan_command` and prints what
they return; figures are drawn there too, from the `Outcome`, because reports stand below laws.
"""

import datetime
import inspect
import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from scaling import units
from scaling.errors import UserError
from scaling.laws import checks, planning, registration
from scaling.laws.expressions import assignments, split
from scaling.laws.extrapolation import Holdout, holdout
from scaling.laws.extrapolation import split as split_largest
from scaling.laws.result import Fit
from scaling.laws.rows import check_enough, groups, names_of, pooled, read_rows
from scaling.laws.rungs import read_base, steps, study_file
from scaling.laws.rungs import rungs as ladder_of
from scaling.laws.table import Table, read_file, shape_table

# What the columns of our own tables count (scaling/records/tables.py).
OWN_CONVENTIONS = {
    "params": "all parameters, embeddings included",
    "tokens": "training tokens, repeats counted",
    "flops": "training FLOPs of all matmuls, attention in full (3 x forward)",
    "loss": "final in-distribution validation loss, nats a token",
}


@dataclass(frozen=True)
class Outcome:
    """What a command made: text for the terminal, and the pieces that figures are drawn from."""

    text: str
    fits: dict[str, Fit] = field(default_factory=dict)  # by group's label; "" without groups
    folders: dict[str, str] = field(default_factory=dict)  # the sub-folder of each
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # the rows of each group
    holdouts: dict[str, Holdout] = field(default_factory=dict)
    approaches: dict[str, pd.DataFrame] = field(default_factory=dict)
    comparisons: dict[str, pd.DataFrame] = field(default_factory=dict)
    sensitivities: dict[str, pd.DataFrame] = field(default_factory=dict)
    plan: planning.Plan | None = None
    design: planning.Design | None = None
    files: tuple[pathlib.Path, ...] = ()


def _load(table: str, workdir: str, decimal: str, columns: str, derive: str, where: str) -> Table:
    if bool(table) == bool(workdir):
        raise UserError(
            "give exactly one of --table (a file) and --workdir or --experiment (our own runs)"
        )
    path = pathlib.Path(table)
    if workdir:
        found = [pathlib.Path(workdir) / f"table.{kind}" for kind in ("parquet", "csv")]
        found = [p for p in found if p.is_file()]
        if not found:
            raise UserError(
                f"--workdir={workdir} has no table.parquet; `launch.py report` writes it"
            )
        path = found[0]
    try:
        raw, told = read_file(path, decimal)
    except UserError as e:
        raise UserError(f"--{'workdir' if workdir else 'table'}: {e}") from None
    rows, notes = shape_table(raw, columns=columns, derive=derive, where=where)
    return Table(rows, len(raw), (*told, *notes), path.name)


def _write(path: pathlib.Path, text: str) -> pathlib.Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text)
        partial.replace(path)
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from None
    return path


def _conventions(loaded: Table, own: bool, columns: str, derive: str) -> dict[str, str]:
    if own:
        return dict(OWN_CONVENTIONS)
    named = {new: f'"{old}" of {loaded.source}' for new, old in
             assignments(columns, "--columns").items()}  # fmt: skip
    derived = assignments(derive, "--derive")
    out = {"counting": f"as in {loaded.source}; loss in the units of its column"}
    return out | named | derived


def fit_command(
    *,
    table: str = "",
    workdir: str = "",
    law: str = "power_floor",
    decimal: str = "",
    columns: str = "",
    derive: str = "",
    where: str = "",
    x: str = "params",
    loss: str | None = None,
    objective: str = "huber",
    delta: float = 1e-3,
    tilt: float = 0.5,
    space: str = "log",
    sd: str | None = None,
    fixed: str = "",
    bootstrap: int = 1000,
    method: str = "auto",
    cluster: str | None = None,
    by: str | None = None,
    level: float = 0.9,
    seed: int = 0,
    holdout_by: str | None = None,
    compare: str = "",
    sensitivity: bool = False,
    approaches: bool = False,
    preregister: str = "",
    score: str = "",
    out: str = "",
) -> Outcome:
    """Fit a law to a table, or score a preregistered prediction on one.

    Args (those that `fit` does not explain):
      table, workdir: a file, or a folder of our runs with its table.
      decimal: "." or ",": what 1,400 means where the table does not say.
      columns, derive, where: see `shape_table`.
      x: column of a law of one column; ignored by others.
      fixed: "alpha=0.35,beta=0.35", parameters that are given.
      by: column; one fit for each of its values.
      holdout_by: column whose largest value is predicted from the rest.
      compare: "chinchilla,kaplan": laws compared with this one.
      sensitivity: a table of the answer under other choices.
      approaches: a table of compute-optimal exponents by envelope, isoFLOP and parametric fit.
      preregister: "params=7e10,tokens=1.4e12": a planned run; writes OUT/prediction.json.
      score: a prediction.json; nothing is fitted.
      out: folder of fit.json and the tables; empty: nothing is written.
    """
    checks.check_fit(
        objective=objective, delta=delta, tilt=tilt, space=space, bootstrap=bootstrap,
        method=method, cluster=cluster, level_=level, seed=seed, preregister=preregister,
        score=score, out=out, defaults=_defaults(fit_command),
    )  # fmt: skip
    checks.choice("--decimal", decimal, ("", ".", ","))
    given = checks.numbers(fixed, "--fixed")
    planned = checks.numbers(preregister, "--preregister")
    form = checks.known_law(law, "--law")
    checks.check_law(form, given, x, _defaults(fit_command)["x"], planned)
    for name in split(compare):
        checks.known_law(name, "--compare")
    loaded = _load(table, workdir, decimal, columns, derive, where)
    if score:
        return Outcome(_score(score, loaded))
    named_by = {"--x": x if form.columns == ("x",) else None, "--loss": loss, "--sd": sd,
                "--cluster": cluster, "--by": by, "--holdout_by": holdout_by}  # fmt: skip
    checks.check_columns(named_by, loaded.rows.columns)
    if holdout_by and by is None:
        split_largest(loaded.rows, holdout_by, loss or form.target)
    if by is None:
        names, free = names_of(form, x), [n for n in form.names if n not in given]
        read = read_rows(loaded.rows, form, names, loss or form.target, space, sd, cluster)
        check_enough(read, form, free, names, loss or form.target)
    from scaling.laws import isoflop, selection  # these bring jax: all that was typed is checked
    from scaling.laws.fitting import fit

    options: dict[str, Any] = {
        "objective": objective, "delta": delta, "tilt": tilt, "space": space, "sd": sd,
        "method": method, "fixed": given, "bootstrap": bootstrap,
        "cluster": cluster, "level": level, "seed": seed,
    }  # fmt: skip
    told = [f"{loaded.source}: {loaded.read} rows", *loaded.notes]
    result = Outcome("")
    files: list[pathlib.Path] = []
    refused: list[str] = []
    for name, below, rows in _groups(loaded.rows, by):
        folder = pathlib.Path(out) / below if out else None
        named = _conventions(loaded, bool(workdir), columns, derive)
        try:
            found = fit(rows, law, x=x, loss=loss, conventions=named, **options)
        except UserError as e:
            if by is None:
                raise
            refused.append(f"{by} = {name}: {e}")
            told.append(f"\n{by} = {name}\nnot fitted: {e}")
            continue
        mixed = pooled(rows[rows[found.loss].notna()], tuple(found.x.values()), cluster)
        found = replace(found, flags=(*mixed, *found.flags))
        if by is None:
            left_out = tuple(n for n in loaded.notes if "left out" in n)
            dropped = loaded.read - found.n
            found = replace(found, dropped=dropped, flags=(*left_out, *found.flags))
        result.fits[name], result.tables[name], result.folders[name] = found, rows, below
        told += [f"\n{by} = {name}" if by else "", str(found)]
        shared = options | {"x": x, "loss": found.loss}
        extra: dict[str, pd.DataFrame] = {}
        if holdout_by:
            tested = holdout(rows, law, by=holdout_by, **shared)
            result.holdouts[name] = tested
            told.append(tested.sentence)
        if compare:
            laws = list(dict.fromkeys([law, *split(compare)]))
            extra["comparison"] = selection.compare(rows, laws, by=holdout_by, **shared)
            result.comparisons[name] = extra["comparison"]
        if sensitivity:
            chosen = {k: v for k, v in shared.items() if k not in ("bootstrap", "method")}
            extra["sensitivity"] = selection.sensitivity(rows, law, **chosen)
            result.sensitivities[name] = extra["sensitivity"]
        if approaches:
            extra["approaches"] = isoflop.side_by_side(
                rows, level=level, run=cluster, loss=found.loss, seed=seed
            )
            result.approaches[name] = extra["approaches"]
        told += [f"\n{k}\n{_show(v)}" for k, v in extra.items()]
        if folder is not None:
            files.append(_write(folder / "fit.json", found.to_json()))
            files += [_write(folder / f"{k}.csv", v.to_csv(index=False)) for k, v in extra.items()]
        if preregister and folder is not None:
            when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            text = registration.preregister(found, planned, table=rows, when=when)
            files.append(_write(folder / "prediction.json", text))
    if refused and not result.fits:
        raise UserError(f"--by: no group can be fitted; {refused[0]}")
    told += [f"wrote {f}" for f in files]
    return replace(result, text="\n".join(line for line in told if line), files=tuple(files))


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of its keywords."""
    return {n: p.default for n, p in inspect.signature(function).parameters.items()}


def _groups(rows: pd.DataFrame, by: str | None) -> list[tuple[str, str, pd.DataFrame]]:
    """Label, sub-folder and rows of each group; both empty without groups."""
    if by is None:
        return [("", "", rows)]
    found = groups(rows, by)
    values = [value for value, _ in found]
    return [
        (label, folder, part)
        for label, folder, (_, part) in zip(
            units.labels(values), units.folder_names(values), found, strict=True
        )
    ]


def _score(score: str, loaded: Table) -> str:
    """How a prediction written before did on this table."""
    try:
        registered = pathlib.Path(score).read_text()
    except (OSError, ValueError):
        raise UserError(
            f"--score={score}: no such prediction; `launch.py fit --preregister` writes one"
        ) from None
    try:
        return registration.score(registered, loaded.rows).sentence
    except UserError as e:
        raise UserError(f"--score={score}: {e}") from None


def _show(table: pd.DataFrame) -> str:
    with pd.option_context("display.width", 200, "display.max_columns", 30,
                           "display.max_colwidth", 80):  # fmt: skip
        return table.to_string(index=False, float_format=lambda v: f"{v:.5g}", na_rep="-")


def plan_command(
    *,
    fit: str,
    flops: float,
    inference_tokens: float = 0.0,
    unique_tokens: float | None = None,
    level: float | None = None,
    design: bool = False,
    budget: float | None = None,
    rungs: int = 4,
    base: str = "configs.lm",
    vocab: int | None = None,
    out: str = "",
) -> Outcome:
    """The compute-optimal run of a budget of 6 x params x tokens, from a fit.json.

    Args:
      fit: path of fit.json (or its folder).
      flops: training budget of the planned run.
      inference_tokens: tokens read or written after training; 0: not planned for.
      unique_tokens: for a data-constrained law.
      level: of the intervals; None: the fit's.
      design: propose runs that shrink the interval at `flops` most.
      budget: FLOPs for those runs; required by design.
      rungs: sizes of the ladder.
      base: module or path of the config that the ladder changes.
      vocab: its vocabulary, for the sizes; None: as it says, or bytes.
      out: folder of plan.json, ladder.py and design.csv; empty: nothing is written.
    """
    checks.check_plan(
        flops=flops, inference_tokens=inference_tokens, unique_tokens=unique_tokens,
        level_=level, design=design, budget=budget, rungs=rungs, vocab=vocab, out=out,
    )  # fmt: skip
    fitted = _read_fit(fit)
    made = planning.plan(
        fitted, flops, inference_tokens=inference_tokens, unique_tokens=unique_tokens, level=level
    )
    told = [
        f"{flops:.4g} training FLOPs ({planning.CONVENTION}), {fitted.law} fitted on {fitted.n} "
        "runs:",
        *(_line(n, getattr(made, n), made.level) for n in ("params", "tokens", "loss")),
        "\nthe same budget on another size", _show(made.other_sizes),
    ]  # fmt: skip
    if made.inference:
        i = made.inference
        told.append(
            f"\nwith {inference_tokens:.3g} tokens of inference: {i['params']:.4g} params on "
            f"{i['tokens']:.4g} tokens ({i['training_flops']:.3g} training FLOPs) reach the same "
            f"loss and save {i['saved']:.1%} of training plus inference"
        )
    told += [f"note: {n}" for n in made.notes]
    below = read_base(base)
    ladder = ladder_of(
        fitted, flops, count=rungs, vocab=vocab or below.vocab, unique_tokens=unique_tokens
    )
    told += ["\nladder", _show(steps(ladder, below))]
    told.append(
        f"note: shape and tokens are the plan's; {below.said} are {below.module}'s at every size: "
        "give the rungs their own before you train large ones"
    )
    proposed = None
    if design and budget is not None:
        proposed = planning.design(fitted, flops, budget)
        told += [f"\n{proposed.sentence}", _show(proposed.runs)]
    files = []
    if out:
        folder = pathlib.Path(out)
        values: Mapping[str, Any] = planning.summary(made)
        files.append(_write(folder / "plan.json", json.dumps(values, indent=1, default=float)))
        study = _write(folder / "ladder.py", study_file(ladder, below, flops, fitted.law))
        files.append(study)
        if proposed is not None:
            files.append(_write(folder / "design.csv", proposed.runs.to_csv(index=False)))
    told += [f"wrote {f}" for f in files]
    if out:
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
