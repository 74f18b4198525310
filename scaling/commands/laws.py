"""`launch.py fit` and `plan`: their flags are the fields of the records in
`scaling/laws/options.py`.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from scaling import files
from scaling.commands.command import FLAGS, Command, experiment_flag
from scaling.commands.tables import asked_paper, given_study, paper_flags
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.laws.options import PlanRequest
    from scaling.laws.plan_command import Models
    from scaling.records import RunDirectory

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
}


def _define(record: type, helps: dict[str, str]) -> None:
    """One flag for each field of a record, of its type and with its default."""
    from scaling.laws.options import hints

    kinds = hints(record)
    for field in dataclasses.fields(record):
        default = None if field.default is dataclasses.MISSING else field.default
        default = "" if field.default_factory is not dataclasses.MISSING else default
        _DEFINE[kinds[field.name]](field.name, default, helps[field.name])


def _typed(record: type[Any], **given: Any) -> Any:
    """The record of the flags that `_define` made, but for what is `given`."""
    from scaling.laws.options import read

    values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(record)}
    return read(record, values | given)


FIT_HELP = {
    "table": "text (.csv, .tsv, .txt), Parquet, JSON or JSON lines; or give --workdir",
    "workdir": "our own runs, all of them; with --experiment those of a study (default out)",
    "law": "the law; an unknown one lists all, auto takes that of all the columns allow which "
    "predicts best",
    "decimal": "'.' or ',': what 1,400 means where the table does not say",
    "columns": "names, or places: 'params=Model Size,loss=#3'",
    "derive": "columns from others: 'tokens=flops/(6*params)'",
    "where": "rows to keep: 'loss<5 and optim.peak_lr==0.003'",
    "x": "column of a law of one column",
    "loss": "column of the loss; default: the law's",
    "objective": "huber, squares, absolute, ...; an unknown one lists all",
    "delta": "of the Huber loss",
    "tilt": "of the asymmetric loss, between 0 and 1",
    "space": "residuals in log or linear",
    "sd": "column with the noise of each loss",
    "fixed": "parameters that are given: 'alpha=0.35'",
    "bootstrap": "resamples; 0: none",
    "method": "of the intervals",
    "forecast": "doubt about the form in the intervals; --noforecast: those of the bootstrap alone",
    "cluster": "column: rows that share its value are one run, e.g. branched_from; a row "
    "where it is empty stands alone",
    "by": "column: one fit for each of its values",
    "level": "of the intervals",
    "seed": "of the resampling",
    "holdout_by": "column whose largest value is predicted from the rest",
    "backtest": "fit below every size and predict all above it, by --holdout_by or flops, params",
    "then": "a second law, of the loss that the first predicts: accuracy, error, loss_to_loss",
    "compare": "other laws, compared on the same rows",
    "average": "one prediction of the laws compared (--compare or --law=auto), weighed by their "
    "backtests",
    "sensitivity": "how the answer moves with the choices made",
    "approaches": "envelope, isoFLOP and parametric exponents side by side",
    "preregister": "a planned run: 'params=7e10,tokens=1.4e12'; writes OUT/prediction.json",
    "score": "a prediction.json, scored on this table",
    "out": "folder of fit.json and the tables",
}
PLAN_HELP = {
    "fit": "fit.json, or its folder",
    "flops": "training budget of the planned run",
    "joules": "the same in energy, in the place of --flops",
    "flops_per_joule": "what a joule buys; default: what it bought in the runs of the fit",
    "inference_units": "tokens, images, ... that are read or made after training",
    "unique_units": "distinct ones that there are, for a law that knows them (data_constrained)",
    "level": "of the intervals; default: the fit's",
    "design": "propose runs that shrink the interval most",
    "budget": "FLOPs for those runs",
    "rungs": "sizes of the ladder, the last the plan's",
    "recipe": "makes the models, e.g. configs.tiny:RECIPE; default: the usual shapes of the base's "
    "family, 6 FLOPs a param and token",
    "base": "config that the ladder changes, e.g. configs.lm or configs/lm.py; default: the "
    "recipe's",
    "sizes": "of the data, which the model is built for, where neither base nor data say them, by "
    "name: 'classes=10,...'",
    "out": "folder of plan.json, ladder.py and design.csv",
}


def _fit_flags() -> None:
    from scaling.laws.options import FitRequest

    _define(FitRequest, FIT_HELP)
    experiment_flag()
    paper_flags()


def _prepare_engine() -> None:
    """What jax reads as it is imported, which the laws leave until all that was typed is checked:
    the CPU, as fits are small and in float64, and a folder that keeps every compiled program.
    """

    kept = files.data_dir() / "jax_cache"
    values = {"JAX_PLATFORMS": "cpu"}
    with contextlib.suppress(OSError):  # where nothing can be kept, each process compiles
        kept.mkdir(parents=True, exist_ok=True)
        values |= {
            "JAX_COMPILATION_CACHE_DIR": str(kept),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _fit() -> int:
    from scaling.laws.fit_command import fit_command
    from scaling.laws.options import FitRequest

    paper = asked_paper()
    if paper is not None and not FLAGS.out:
        raise UserError("--figures go below the folder of --out; give it")
    _prepare_engine()
    outcome = fit_command(_typed(FitRequest, workdir=_own_table()))
    print(outcome.text)
    if FLAGS.out and outcome.fits:
        from scaling.report import laws as figures

        for path in figures.write(outcome, FLAGS.out, run=FLAGS.cluster, paper=paper):
            if path.suffix in (".png", ".pdf", ".html"):
                print(f"wrote {path}")
    return 0


def _own_table() -> str:
    """The folder with the table of our own runs, written now; "" when another table is given."""
    from scaling.records import RunDirectory, find_runs
    from scaling.studies import study

    if FLAGS.experiment is None:
        if FLAGS.workdir and not FLAGS.table:
            runs = find_runs(FLAGS.workdir)
            if not runs:
                raise UserError(
                    f"{FLAGS.workdir} has no runs; sweep or train there first, or give a file as "
                    "--table"
                )
            _write_table(runs, FLAGS.workdir)
        return FLAGS.workdir
    plan, workdir = given_study(), epath.Path(FLAGS.workdir or "out")
    shown = study.shown(plan, study.runs(plan))
    names = {RunDirectory.open(config, workdir).path.name for config in shown}
    runs = [run for run in find_runs(workdir) if run.path.name in names]
    if not runs:
        raise UserError(f"no run of {FLAGS.experiment} has begun in {workdir}; sweep it first")
    folder = workdir / "report" / plan.name
    _write_table(runs, folder)
    return str(folder)


def _write_table(runs: "list[RunDirectory]", folder: epath.PathLike) -> None:
    """The table of runs; those that are damaged have no loss in it, and a line on stderr."""
    from scaling.records import tables

    frame = tables.table(runs)
    for row in frame[frame["status"] == "damaged"].to_dict("records"):
        print(f"left out, damaged: {row['name']}: {row['reason']}", file=sys.stderr)
    tables.write_table(frame, folder)


def _plan_flags() -> None:
    from scaling.laws.options import PlanRequest

    _define(PlanRequest, PLAN_HELP)


def _plan() -> int:
    from scaling.laws.options import PlanRequest
    from scaling.laws.plan_command import plan_command

    _prepare_engine()
    asked = _typed(PlanRequest)
    print(plan_command(asked, models_of).text)
    return 0


def models_of(asked: "PlanRequest") -> "Models":
    """The models of --recipe: what their family counts of each width. Raises UserError."""
    from scaling.laws.plan_command import Models
    from scaling.laws.rungs import TEXT, imported, read_base
    from scaling.laws.shapes import Shape
    from scaling.studies import ladder

    place, _, name = asked.recipe.partition(":")
    module = imported(place)
    recipes = [k for k, v in vars(module).items() if isinstance(v, ladder.Recipe)] if module else []
    if name not in recipes:
        known = f"{place} has {', '.join(recipes)}" if recipes else "e.g. configs.tiny:RECIPE"
        raise UserError(
            f"--recipe={asked.recipe} is no studies.ladder.Recipe; give its module or path, and "
            f"its name ({known})"
        )
    recipe: ladder.Recipe = vars(module)[name]
    base = read_base(asked.base or (place if hasattr(module, "get_config") else TEXT))
    facts = ladder.facts_of(base.config, asked.sizes)

    def shape(width: int) -> Shape:
        size = ladder.size_of(recipe, width, base.config, facts)
        return Shape(size.params, size.flops_per_unit, recipe.shape(width, base.config))

    return Models(asked.recipe, base, shape, ladder.width_step(recipe, base.config))


COMMANDS = {
    "fit": Command(
        "fit a law to a table of runs, with intervals",
        """Fit a law to a table: our own runs, or anybody's.

  python launch.py fit --experiment=experiments/quickstart.py --holdout_by=params --out=out/fit
  python launch.py fit --table=runs.csv --law=chinchilla \\
    --columns='params=Model Size,flops=Training FLOP' --derive='tokens=flops/(6*params)' \\
    --where='loss<5' --bootstrap=4000 --out=out/fit""",
        _fit_flags,
        _fit,
    ),
    "plan": Command(
        "the compute-optimal run of a budget, from a fit",
        """Say which model and how much data a budget should buy, with intervals.

Without a recipe FLOPs are 6 x params x tokens, and shapes those that are usual for the base's
family: for text. (The flops column of our own tables counts attention too: up to twice as many for
small models.) With --recipe, models, FLOPs, batch and learning rate are the recipe's, of whatever
family and data.

  python launch.py plan --fit=out/fit/fit.json --flops=1e21 --out=out/plan
  python launch.py sweep --experiment=out/plan/ladder.py --dry_run
  python launch.py plan --fit=out/fit --flops=1e21 --design --budget=1e19
  python launch.py plan --fit=out/fit --flops=1e14 --recipe=configs.tiny:RECIPE""",
        _plan_flags,
        _plan,
    ),
}
