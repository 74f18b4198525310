"""The only entry point: `python launch.py <command> [flags]`; `python launch.py --help` lists them.

Parses flags, decides about jax, calls one room. Bad input ends with one line and exit code 2.
"""

import inspect
import signal
import sys
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from absl import flags
from etils import epath
from ml_collections import config_flags

from scaling.errors import UserError, nearest

FLAGS = flags.FLAGS
# sysexits' "temporary failure": everything is saved, the same command goes on from there.
RESUME_ME, BAD_INPUT, DIVERGED, FAILED = 75, 2, 3, 1


@dataclass(frozen=True)
class Command:
    """One sub-command: what it is for, its flags, and the function that does it."""

    summary: str
    help: str
    define_flags: Callable[[], None]
    run: Callable[[], int]


def _stop_on_signals() -> threading.Event:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _workdir_flag() -> None:
    flags.DEFINE_string("workdir", "out", "folder of the run directories, tables and reports")


def _experiment_flag() -> None:
    flags.DEFINE_string(
        "experiment", None, "a study, e.g. experiments/width.py or .../width.py:debug"
    )


def _cpu_devices_flag() -> None:
    flags.DEFINE_integer("cpu_devices", None, "split the CPU into this many devices (debugging)")


# ---- train


def _train_flags() -> None:
    config_flags.DEFINE_config_file("config", None, "a base config, e.g. configs/lm.py:debug")
    flags.DEFINE_string("run", None, "go on with a run directory, instead of --config")
    _workdir_flag()
    _cpu_devices_flag()


def _train() -> int:
    from scaling import runtime, study
    from scaling.records import RunDirectory
    from scaling.train.loop import train

    runtime.configure(FLAGS.cpu_devices)
    if (FLAGS.config is None) == (FLAGS.run is None):
        raise UserError("train: give exactly one of --config and --run")
    workdir = epath.Path(FLAGS.workdir)
    if FLAGS.run:
        stored = RunDirectory(FLAGS.run)
        config, workdir = study.resolve(stored.config()), stored.path.parent.parent
    else:
        config = study.resolve(FLAGS.config)
    outcome = train(config, workdir, stop=_stop_on_signals())
    print(f"{outcome.status} at step {outcome.step}: {RunDirectory.open(config, workdir).path}")
    if outcome.reason:
        print(outcome.reason)
    return {"done": 0, "stopped": RESUME_ME, "diverged": DIVERGED}[outcome.status]


# ---- sweep


def _sweep_flags() -> None:
    _experiment_flag()
    _workdir_flag()
    flags.DEFINE_bool("dry_run", False, "print what would run and what it costs, then stop")
    flags.DEFINE_enum("executor", "local", ["local"], "where the runs are trained")
    flags.DEFINE_integer("workers", None, "processes; default one a core; 1: in this process")
    flags.DEFINE_bool("report", True, "write the table and the report when the runs have ended")
    flags.DEFINE_integer("devices", None, "--dry_run: devices a run has; default: those here")
    _cpu_devices_flag()


def _sweep() -> int:
    from scaling import runtime, study
    from scaling.executors import EXECUTORS, preview

    runtime.configure(FLAGS.cpu_devices)
    plan = _study()
    configs = study.runs(plan)
    if FLAGS.dry_run:
        print(preview.table(configs, FLAGS.workdir, devices=FLAGS.devices))
        return 0
    stop, results = _stop_on_signals(), []
    progress = preview.SweepProgress(configs, FLAGS.workdir)
    results = EXECUTORS[FLAGS.executor](
        configs, FLAGS.workdir, workers=FLAGS.workers, stop=stop, on_result=progress.ended
    )
    print(preview.summary(results, FLAGS.workdir))
    if stop.is_set():
        return RESUME_ME
    if FLAGS.report:
        _write_report(plan, configs)
    return FAILED if any(r.status == "failed" for r in results) else 0


def _study():  # type: ignore[no-untyped-def]  # scaling.sweep.Study, imported late
    from scaling import study

    if FLAGS.experiment is None:
        raise UserError("give --experiment, e.g. --experiment=experiments/quickstart.py")
    return study.load_study(FLAGS.experiment)


def _write_report(plan, configs) -> None:  # type: ignore[no-untyped-def]
    from scaling.records import RunDirectory
    from scaling.report import report

    directories = [RunDirectory.open(config, FLAGS.workdir) for config in configs]
    page = report(directories, out=epath.Path(FLAGS.workdir) / "report" / plan.name, study=plan)
    print(f"report: {page}")


# ---- status, report


def _status_flags() -> None:
    _experiment_flag()
    _workdir_flag()
    flags.DEFINE_bool("watch", False, "refresh until interrupted")


def _status() -> int:
    from scaling import study
    from scaling.status import show, watch

    planned = study.runs(_study()) if FLAGS.experiment else None
    (watch if FLAGS.watch else show)(FLAGS.workdir, planned)
    return 0


def _report_flags() -> None:
    _experiment_flag()
    _workdir_flag()


def _report() -> int:
    from scaling import study
    from scaling.report import report

    if FLAGS.experiment:
        plan = _study()
        _write_report(plan, study.runs(plan))
    else:
        page = report(FLAGS.workdir, out=epath.Path(FLAGS.workdir) / "report" / "all")
        print(f"report: {page}")
    return 0


# ---- fit, plan


def _define(function: Callable[..., Any], helps: dict[str, str]) -> None:
    """One flag for each keyword of `function`, of its type and with its default."""
    for name, parameter in inspect.signature(function).parameters.items():
        # "float | None" is a float flag that may stay unset.
        kind = (typing.get_args(parameter.annotation) or (parameter.annotation,))[0]
        default = None if parameter.default is parameter.empty else parameter.default
        define = {
            str: flags.DEFINE_string,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            bool: flags.DEFINE_bool,
        }[kind]
        define(name, default, helps[name])


def _call(function: Callable[..., Any]) -> Any:
    """`function` with the flags that `_define` made; those without a default must be given."""
    values = {}
    for name, parameter in inspect.signature(function).parameters.items():
        values[name] = FLAGS[name].value
        if parameter.default is parameter.empty and values[name] is None:
            raise UserError(f"give --{name}")
    return function(**values)


FIT_HELP = {
    "table": "CSV, Parquet or JSON lines; or give --workdir",
    "workdir": "our own runs",
    "law": "the law; an unknown one lists all",
    "columns": "names: 'params=Model Size,flops=Training FLOP'",
    "derive": "columns from others: 'tokens=flops/(6*params)'",
    "where": "rows to keep: 'loss<5'",
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
    "cluster": "column: rows that share its value are one run",
    "by": "column: one fit for each of its values",
    "level": "of the intervals",
    "seed": "of the resampling",
    "holdout_by": "column whose largest value is predicted from the rest",
    "compare": "other laws, compared on the same rows",
    "sensitivity": "how the answer moves with the choices made",
    "approaches": "envelope, isoFLOP and parametric exponents side by side",
    "preregister": "a planned run: 'params=7e10,tokens=1.4e12'; writes OUT/prediction.json",
    "score": "a prediction.json, scored on this table",
    "out": "folder of fit.json and the tables",
}
PLAN_HELP = {
    "fit": "fit.json, or its folder",
    "flops": "training budget of the planned run",
    "inference_tokens": "tokens read or written after training",
    "unique_tokens": "for a data-constrained law",
    "level": "of the intervals; default: the fit's",
    "design": "propose runs that shrink the interval most",
    "budget": "FLOPs for those runs",
    "rungs": "sizes of the ladder config",
    "base": "module of the config that the ladder changes",
    "vocab": "its vocabulary",
    "out": "folder of plan.json, ladder.py and design.csv",
}


def _fit_flags() -> None:
    from scaling.laws.command import fit_command

    _define(fit_command, FIT_HELP)


def _fit() -> int:
    from scaling import records
    from scaling.laws.command import fit_command

    if FLAGS.workdir:
        records.write_table(records.table(FLAGS.workdir), FLAGS.workdir)
    print(_call(fit_command).text)
    return 0


def _plan_flags() -> None:
    from scaling.laws.command import plan_command

    _define(plan_command, PLAN_HELP)


def _plan() -> int:
    from scaling.laws.command import plan_command

    print(_call(plan_command).text)
    return 0


# ---- check, generate


def _check_flags() -> None:
    config_flags.DEFINE_config_file("config", None, "a base config, e.g. configs/lm.py")
    _cpu_devices_flag()


def _check() -> int:
    from scaling import runtime, study
    from scaling.check import check

    runtime.configure(FLAGS.cpu_devices)
    if FLAGS.config is None:
        raise UserError("check: give --config, e.g. --config=configs/lm.py")
    print(check(study.resolve(FLAGS.config)))
    return 0


def _generate_flags() -> None:
    flags.DEFINE_string("run", None, "a run directory with a checkpoint")
    flags.DEFINE_string("prompt", "def ", "text to continue")
    flags.DEFINE_integer("tokens", 200, "tokens to generate")
    flags.DEFINE_float("temperature", 0.8, "0: always the likeliest token")
    flags.DEFINE_integer("top_k", None, "sample from the k likeliest tokens only")
    flags.DEFINE_integer("seed", 0, "of the sampling")


def _generate() -> int:
    from scaling import runtime
    from scaling.continuation import continue_text

    runtime.configure()
    if FLAGS.run is None:
        raise UserError("generate: give --run, a run directory such as out/runs/<run>")
    text = continue_text(
        FLAGS.run,
        FLAGS.prompt,
        FLAGS.tokens,
        temperature=FLAGS.temperature,
        top_k=FLAGS.top_k,
        seed=FLAGS.seed,
    )
    print(text)
    return 0


COMMANDS = {
    "train": Command(
        "train one run",
        """Train one run; start it again and it goes on where it stopped.

  python launch.py train --config=configs/lm.py:debug
  python launch.py train --config=configs/lm.py --config.model.width=512 --workdir=out
  python launch.py train --config=configs/lm.py:debug --cpu_devices=8 --config.mesh.fsdp=4
  python launch.py train --run=out/runs/<run>

Exit codes: 0 done; 75 stopped by a signal and saved, run the same command again; 3 diverged;
2 bad input.""",
        _train_flags,
        _train,
    ),
    "sweep": Command(
        "train every run of a study, then report",
        """Train every run of a study. Runs that are done are skipped, half-done ones go on.

  python launch.py sweep --experiment=experiments/quickstart.py --dry_run
  python launch.py sweep --experiment=experiments/quickstart.py
  python launch.py sweep --experiment=experiments/width.py:debug --workers=1

A run that fails or diverges never stops the others; it is listed with the command that repeats
it alone.""",
        _sweep_flags,
        _sweep,
    ),
    "status": Command(
        "the runs of a workdir: state, rate, ETA, failures",
        """Show the runs of a workdir, or of a study (then also those that have not begun).

  python launch.py status
  python launch.py status --experiment=experiments/quickstart.py --watch""",
        _status_flags,
        _status,
    ),
    "report": Command(
        "table, figures and one HTML page of finished runs",
        """Write table.parquet, table.csv, PNG and SVG figures and one self-contained HTML page.

  python launch.py report --experiment=experiments/quickstart.py
  python launch.py report --workdir=out""",
        _report_flags,
        _report,
    ),
    "fit": Command(
        "fit a law to a table of runs, with intervals",
        """Fit a law to a table: our own runs, or anybody's.

  python launch.py fit --workdir=out --law=power_floor --holdout_by=params --out=out/fit
  python launch.py fit --table=runs.csv --law=chinchilla \\
    --columns='params=Model Size,flops=Training FLOP' --derive='tokens=flops/(6*params)' \\
    --where='loss<5' --bootstrap=4000 --out=out/fit""",
        _fit_flags,
        _fit,
    ),
    "plan": Command(
        "the compute-optimal run of a budget, from a fit",
        """Say which model and how much data a budget should buy, with intervals.

  python launch.py plan --fit=out/fit/fit.json --flops=1e21 --out=out/plan
  python launch.py plan --fit=out/fit --flops=1e21 --design --budget=1e19""",
        _plan_flags,
        _plan,
    ),
    "check": Command(
        "sharding, parameters, FLOPs and memory of a run, before it is trained",
        """Say how a run lies on its mesh and what it costs; trains nothing.

  python launch.py check --config=configs/lm.py
  python launch.py check --config=configs/lm.py --cpu_devices=8 --config.mesh.fsdp=4""",
        _check_flags,
        _check,
    ),
    "generate": Command(
        "continue a prompt with a trained run",
        """Continue a prompt with the newest checkpoint of a run.

  python launch.py generate --run=out/runs/<run> --prompt='def main(' --tokens=200""",
        _generate_flags,
        _generate,
    ),
}


def main(argv: list[str]) -> int:
    """Run the sub-command that `argv` names; the exit code."""
    if len(argv) < 2 or argv[1] in ("help", "-h", "--help"):
        print(__doc__)
        for name, command in COMMANDS.items():
            print(f"  {name:9s} {command.summary}")
        print("\npython launch.py <command> --help shows examples and flags.")
        return 0 if len(argv) > 1 else BAD_INPUT
    name, rest = argv[1], argv[2:]
    try:
        if name not in COMMANDS:
            raise UserError(f"{name} is no command{nearest(name, COMMANDS)}")
        command = COMMANDS[name]
        command.define_flags()
        if {"--help", "-h", "--helpfull"} & set(rest):
            print(f"{command.help}\n\nFlags:{FLAGS.module_help(sys.modules[__name__])}")
            return 0
        try:
            extra = FLAGS([f"launch.py {name}", *rest])[1:]
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(str(error).strip("\"'")) from error
        if extra:
            raise UserError(f"{name}: {extra[0]!r} is no flag; flags start with --")
        return command.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv))
