"""`launch.py sweep`: every run of a study."""

import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etils import epath

from scaling.commands import pods, sweep_flags, tracking, tuning
from scaling.commands.command import (
    FLAGS,
    Command,
    check_file,
    given_options,
    preparing,
    reachable_workdir,
    stop_on_signals,
    workdir_out_of_reach,
)
from scaling.commands.tables import foreseen, given_study, write_report
from scaling.commands.target import checker, write_json
from scaling.errors import FAILED, RESUME_ME, UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.config.sweep import Study
    from scaling.executors.forecast import Forecast
    from scaling.executors.plan import Plan
    from scaling.executors.result import Result


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


def _sweep() -> int:
    sweep_flags.check()
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
    from scaling.config.identity import fingerprint, run_name
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
    with (
        tracking.tracked(plan.name, [run_name(config) for config in configs], FLAGS.workdir),
        SweepProgress(configs, planned.jobs, FLAGS.workdir, slots, known) as progress,
    ):
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
    with (
        tracking.tracked(plan.name, [run_name(config) for config in configs], FLAGS.workdir),
        SweepProgress(configs, jobs, FLAGS.workdir, len(jobs)) as progress,
    ):
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
        sweep_flags.define,
        _sweep,
    ),
}
