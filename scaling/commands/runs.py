"""`launch.py train` and `sweep`: runs that are trained."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from scaling.commands import config_flag, pods, tuning
from scaling.commands.command import (
    FLAGS,
    Command,
    check_file,
    cpu_devices_flag,
    experiment_flag,
    given_options,
    given_run,
    options_flags,
    preparing,
    reachable_workdir,
    stop_on_signals,
    workdir_flag,
    workdir_out_of_reach,
)
from scaling.commands.tables import foreseen, given_study, write_report
from scaling.commands.target import checker, target_flags, write_json
from scaling.errors import DIVERGED, FAILED, RESUME_ME, UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.config.sweep import Study
    from scaling.executors.forecast import Forecast
    from scaling.executors.plan import Plan
    from scaling.executors.result import Result
    from scaling.records import RunDirectory


def _train_flags() -> None:
    config_flag.define()
    flags.DEFINE_string("run", None, "go on with a run directory, instead of --config")
    workdir_flag()
    cpu_devices_flag()
    flags.DEFINE_bool("check_memory", True, "refuse a run that needs more than a device has")


def _train() -> int:
    if (FLAGS.config is None) == (FLAGS.run is None):
        raise UserError("train: give exactly one of --config and --run")
    fields = [f"config.{field.partition('=')[0]}" for field in config_flag.fields()]
    if FLAGS.run and (idle := ["workdir"] * bool(FLAGS["workdir"].present) + fields):
        raise UserError(
            f"--{idle[0]} changes nothing with --run, which goes on as it is; leave it out, "
            "or train another run with --config"
        )
    check_file("config")
    stored = given_run("run") if FLAGS.run else None
    with preparing(FLAGS.config or FLAGS.run) as ready:
        return _train_one(stored, ready)


def _train_one(stored: "RunDirectory | None", ready: Callable[[], None]) -> int:
    """`ready` is called when the run begins, and tells of itself."""
    import jax

    from scaling.devices import distributed, runtime
    from scaling.executors import admission
    from scaling.executors.healing import as_recorded
    from scaling.records import RunDirectory
    from scaling.records.status import validation_loss
    from scaling.studies import study
    from scaling.train.loop import train

    runtime.configure(FLAGS.cpu_devices)
    workdir = epath.Path(FLAGS.workdir)
    if stored is not None:
        given, workdir = as_recorded(stored.config(), stored.changed()), stored.path.parent.parent
    else:
        given = config_flag.given()
    with distributed.session(given.distributed):
        stop = stop_on_signals()
        with distributed.together(), distributed.one_first():
            config = distributed.without_addresses(study.resolve(given))
        distributed.check_same(config)
        if FLAGS.check_memory and jax.process_count() == 1:  # hosts must not disagree
            admission.check(config, jax.devices())
        ready()
        outcome = train(config, workdir, stop=stop)
        if jax.process_index() == 0:
            run = RunDirectory.open(config, workdir)
            loss = validation_loss(run) if outcome.status == "done" else None
            print(f"{outcome.status} at step {outcome.step}: {run.path}")
            if loss is not None:
                print(f"validation loss {loss:.4f}")
            if outcome.reason:
                print(outcome.reason)
    return {"done": 0, "stopped": RESUME_ME, "diverged": DIVERGED}[outcome.status]


# ---- sweep


def _sweep_flags() -> None:
    from scaling.executors import EXECUTORS

    experiment_flag()
    workdir_flag()
    flags.DEFINE_bool("dry_run", False, "print what would run and what it costs, then stop")
    flags.DEFINE_enum("executor", "local", list(EXECUTORS), "where the runs are trained")
    flags.DEFINE_integer(
        "workers", None, "processes; default one a core; 1: in this process", lower_bound=1
    )
    flags.DEFINE_bool("branch", True, "train the steps that runs share once (WSD and the like)")
    flags.DEFINE_string(
        "pack",
        None,
        "alike runs in one program: auto, off, or how many; default auto for --executor=local on a "
        "CPU, else off",
    )
    flags.DEFINE_bool("report", True, "write the table and the report when the runs have ended")
    flags.DEFINE_bool("check_memory", True, "refuse runs that need more memory than a device has")
    flags.DEFINE_integer(
        "devices", None, "that a run has, for --dry_run and --check", lower_bound=1
    )
    flags.DEFINE_bool("why", False, "say of each run why it will or will not run, then stop")
    flags.DEFINE_float(
        "mfu", None, "model FLOPs utilization for predictions without a record; default 0.3"
    )
    flags.DEFINE_bool("check", False, "compile every run for a target, say what fits, then stop")
    flags.DEFINE_bool("tune", False, "train not the study's runs but those of its search (Optuna)")
    target_flags()
    for name, executor in EXECUTORS.items():
        if executor.options:
            options_flags(name, executor.options)


def _where() -> dict[str, Any]:
    """What only the executor of --executor is told."""
    from scaling.executors import EXECUTORS

    options = EXECUTORS[FLAGS.executor].options
    if options is None:
        return {"workers": FLAGS.workers}
    how = {"options": given_options(FLAGS.executor, options)}
    return how | ({"cpu_devices": FLAGS.cpu_devices} if FLAGS.executor == "slurm" else {})


def _planning() -> dict[str, Any]:
    """How the runs become jobs."""
    import jax

    from scaling.executors import machine

    processes = machine.processes(FLAGS.workers) if FLAGS.executor == "local" else 1
    devices = jax.devices()
    if processes > 1:
        devices = devices[: machine.worker_devices(processes)]
    how = {"devices": devices, "processes": processes}
    # By default where it was measured to pay.
    here = FLAGS.executor == "local" and devices[0].platform == "cpu"
    return how | {"branch": FLAGS.branch, "pack": FLAGS.pack or ("auto" if here else "off")}


def _check() -> int:
    """Every run of the study on the target of the flags."""
    from scaling.check import target

    topology = target.prepare(FLAGS.topology)
    from scaling.check import grid
    from scaling.studies import study

    check = checker(topology)
    configs = study.runs(given_study(), planned=True)
    rows = []
    for row in grid.check_all(configs, check):
        rows.append(row)
        if FLAGS.json != "-":
            print(grid.line(row), flush=True)
    if FLAGS.json != "-":
        print(grid.summary(rows))
    if FLAGS.json:
        write_json(grid.as_list(rows))
    return 0 if all(row.fits for row in rows) else FAILED


def _why() -> int:
    """What would become of every run, wherever it would be trained."""
    from scaling.devices import runtime
    from scaling.executors import why
    from scaling.studies import study

    runtime.configure(FLAGS.cpu_devices)
    print(why.text(why.reasons(study.runs(given_study()), FLAGS.workdir)))
    return 0


def _check_flags() -> None:
    """Raises UserError for flags that would change nothing, or what cannot be."""
    from scaling.executors import EXECUTORS
    from scaling.executors import plan as plan_lib

    plan_lib.most_members(FLAGS.pack or "off")
    if FLAGS.mfu is not None and not 0 < FLAGS.mfu <= 1:
        raise UserError(f"--mfu={FLAGS.mfu:g} must be above 0 and at most 1: a share of the peak")
    for name in ("topology", "slices", "hbm", "json"):
        if FLAGS[name].present and not FLAGS.check:
            raise UserError(f"--{name} changes nothing without --check; add it, or leave it out")
    if FLAGS["workers"].present and FLAGS.executor != "local":
        raise UserError(
            f"--workers changes nothing with --executor={FLAGS.executor}; leave it out, or take "
            "--executor=local"
        )
    for name, executor in EXECUTORS.items():
        for field in dataclasses.fields(executor.options) if executor.options else ():
            if name != FLAGS.executor and FLAGS[f"{name}_{field.name}"].present:
                raise UserError(
                    f"--{name}_{field.name} changes nothing with --executor={FLAGS.executor}; add "
                    f"--executor={name}, or leave it out"
                )


def _sweep() -> int:
    _check_flags()
    if FLAGS.check:
        return _check()
    check_file("experiment")
    if FLAGS.tune:
        if FLAGS.why:
            raise UserError("--why says nothing of a search; leave --why or --tune out")
        return tuning.tune(_where(), _planning)
    looks = FLAGS.dry_run and not FLAGS.why
    unread = workdir_out_of_reach() if looks else None
    if not looks:
        reachable_workdir()
    if FLAGS.why:
        return _why()
    with (
        tempfile.TemporaryDirectory() as empty,
        preparing(FLAGS.experiment, quiet=FLAGS.dry_run) as ready,
    ):
        return _train_all(ready, empty if unread else FLAGS.workdir, unread)


def _train_all(ready: Callable[[], None], seen: epath.PathLike, unread: str | None) -> int:
    """`ready` is called when the runs are known, and somebody else tells of them. What is done
    already is looked up in `seen`; `unread`: why, in a dry run, that is not --workdir.
    """
    from scaling.config.identity import fingerprint
    from scaling.devices import runtime
    from scaling.executors import EXECUTORS, admission, forecast, preview
    from scaling.executors import plan as plan_lib
    from scaling.executors.progress import SweepProgress
    from scaling.studies import study

    if EXECUTORS[FLAGS.executor].commands:
        return _pod_sweep(ready, seen, unread)
    runtime.configure(FLAGS.cpu_devices)
    plan = given_study()
    configs = study.runs(plan)
    planned = plan_lib.plan(configs, seen, **_planning())
    predicted = _forecast(configs, planned, seen)
    if FLAGS.dry_run:
        print(preview.table(configs, FLAGS.workdir, FLAGS.devices, unread))
        print(predicted.text())
        if text := planned.text():
            print(text)
        if text := foreseen(plan, configs):
            print(f"note: {text}")
        return 0
    stop, began = stop_on_signals(), time.monotonic()
    refused = []
    if FLAGS.check_memory and FLAGS.executor == "local":
        refused = admission.refused(configs, FLAGS.workdir, _planning()["devices"])
    if refused:
        turned_away = {fingerprint(result.config) for result in refused}
        admitted = [config for config in configs if fingerprint(config) not in turned_away]
        planned = plan_lib.plan(admitted, FLAGS.workdir, **_planning())
    slots, known = predicted.slots, predicted.known
    ready()
    with SweepProgress(configs, planned.jobs, FLAGS.workdir, slots, known) as progress:
        for result in refused:
            progress.ended(result)
        results = refused + EXECUTORS[FLAGS.executor].run(
            planned.jobs,
            FLAGS.workdir,
            stop=stop,
            on_result=progress.ended,
            on_start=progress.began,
            **_where(),
        )
    text, frame = forecast.against(predicted, FLAGS.workdir, time.monotonic() - began)
    if text:
        print(text)
        forecast.write(frame, epath.Path(FLAGS.workdir) / "report" / plan.name)
    return _after(plan, configs, results, stop)


def _forecast(configs: "list[RunConfig]", planned: "Plan", workdir: epath.PathLike) -> "Forecast":
    """What the sweep of the flags will take."""
    import jax

    from scaling.config import run_name
    from scaling.executors import forecast

    how = _planning()
    slots = len(configs) if FLAGS.executor == "slurm" else min(how["processes"], len(configs))
    devices, device = FLAGS.devices or len(how["devices"]), jax.devices()[0]
    shared = {run_name(b.config): b.step for job in planned.jobs for _, b in job.branches}
    groups = [job.configs for job in planned.jobs]
    return forecast.forecast(configs, workdir, device, devices, slots, FLAGS.mfu, shared, groups)


def _after(
    plan: "Study", configs: "list[RunConfig]", results: "list[Result]", stop: threading.Event
) -> int:
    """The last words of a sweep, and its exit code."""
    from scaling.executors import preview

    print(preview.summary(results, FLAGS.workdir))
    if stop.is_set():
        return RESUME_ME
    if FLAGS.report:
        with preparing("the report"):
            write_report(plan, configs)
    return FAILED if any(r.status == "failed" for r in results) else 0


def _pod_sweep(ready: Callable[[], None], seen: epath.PathLike, unread: str | None) -> int:
    """A sweep whose runs are trained on pods; nothing is trained on this machine."""
    found, count = pods.pod_target()
    from scaling.config import run_name
    from scaling.devices import runtime
    from scaling.executors import EXECUTORS, preview
    from scaling.executors import jobs as jobs_lib
    from scaling.executors import plan as plan_lib
    from scaling.executors.progress import SweepProgress
    from scaling.studies import study

    if FLAGS.pack == "auto":
        raise UserError("--pack=auto measures this machine, not the pod: give a number, or off")
    runtime.configure(FLAGS.cpu_devices)
    plan = given_study()
    configs = study.runs(plan)
    why = pods.turned_away(configs, seen)
    admitted = [config for config in configs if run_name(config) not in why]
    jobs = plan_lib.plan(admitted, seen, **_planning()).jobs
    if FLAGS.dry_run:
        print(preview.table(configs, FLAGS.workdir, found.chips * count, unread))
        print("".join(f"\nrefused: {name}: {reason}" for name, reason in why.items()))
        print(pods.pod_commands([job for job in jobs if not jobs_lib.over(job, seen)]))
        return FAILED if why else 0
    stop = stop_on_signals()
    results = pods.refuse(configs, why)
    ready()
    with SweepProgress(configs, jobs, FLAGS.workdir, len(jobs)) as progress:
        for result in results:
            progress.ended(result)
        results += EXECUTORS[FLAGS.executor].run(
            jobs,
            FLAGS.workdir,
            stop=stop,
            on_result=progress.ended,
            on_start=progress.began,
            **_where(),
        )
    return _after(plan, configs, results, stop)


COMMANDS = {
    "train": Command(
        "train one run",
        """Train one run; start it again and it goes on where it stopped.

  python launch.py train --config=configs/lm.py:debug
  python launch.py train --config=configs/lm.py --config.model.width=512 --workdir=out
  python launch.py train --config=configs/lm.py:debug --cpu_devices=8 --config.mesh.fsdp=4
  python launch.py train --run=out/runs/<run>

Several hosts run the same command, each with a number of its own (none under Slurm or on a TPU):

  python launch.py train --config=configs/lm.py --config.distributed.coordinator=10.0.0.1:1234 \\
    --config.distributed.processes=4 --config.distributed.process=0

Exit codes: 0 done; 75 stopped by a signal and saved, run the same command again; 3 diverged;
2 bad input.""",
        _train_flags,
        _train,
    ),
    "sweep": Command(
        "train every run of a study, then report",
        """Train every run of a study. Runs that are done are skipped, half-done ones go on.

  python launch.py sweep --experiment=experiments/quickstart.py --dry_run
  python launch.py sweep --experiment=experiments/quickstart.py --why
  python launch.py sweep --experiment=experiments/width.py --check --topology=v5e:2x4
  python launch.py sweep --experiment=experiments/quickstart.py
  python launch.py sweep --experiment=experiments/width.py:debug --workers=1
  python launch.py sweep --experiment=experiments/architecture_search.py --tune --dry_run
  python launch.py sweep --experiment=experiments/width.py --executor=slurm --slurm_partition=gpu \\
    --slurm_gpus=1 --slurm_time=240 --slurm_array_parallelism=32
  python launch.py sweep --experiment=experiments/width.py --workdir=gs://bucket/width \\
    --executor=xpk --xpk_tpu=v5litepod-16 --xpk_cluster=mine --xpk_image=IMAGE --dry_run

A run that fails or diverges never stops the others; it is listed with the command that repeats
it alone.

Exit codes: 0 every run is done, or diverged; 1 a run failed, or --check found one that does not
fit; 75 stopped by a signal and saved, run the same command again; 2 bad input.""",
        _sweep_flags,
        _sweep,
    ),
}
