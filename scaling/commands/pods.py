"""`launch.py work`, which the hosts of a pod run, and what `sweep --executor=xpk|gcloud` does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from scaling.commands.command import FLAGS, Command, given_options, stop_on_signals
from scaling.commands.target import checker
from scaling.errors import FAILED, RESUME_ME, UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.executors.jobs import Job
    from scaling.executors.result import Result


def _options() -> Any:
    from scaling.executors import EXECUTORS

    kind = EXECUTORS[FLAGS.executor].options
    assert kind is not None
    return given_options(FLAGS.executor, kind)


def pod_target() -> tuple[Any, int]:
    """The slice of the flags, and how many; before jax touches a device: then the TPU compiler,
    where it is installed, can be asked.

    Raises UserError for a workdir that the hosts cannot have.
    """
    import importlib.util

    from scaling.check import target
    from scaling.executors.pods import admission

    options = _options()
    found = options.slice
    admission.check_workdir(FLAGS.workdir)
    if importlib.util.find_spec("libtpu") is not None:
        target.prepare(found.name)
    return found, options.slices


def turned_away(configs: "Sequence[RunConfig]", workdir: epath.PathLike) -> dict[str, str]:
    """Why runs do not fit the slices of the flags, by name; those that are over are not asked."""
    import importlib.util

    from scaling.check import grid
    from scaling.config import run_name
    from scaling.executors.jobs import Job, over
    from scaling.executors.pods import admission

    found, count = pod_target()
    todo = [config for config in configs if not over(Job((config,)), workdir)]
    why: dict[str, str] = {}
    compiles = importlib.util.find_spec("libtpu") is not None
    if not FLAGS.check_memory or not compiles:
        ask = admission.estimated if FLAGS.check_memory else admission.cannot_be_cut
        for config in todo:
            if problem := ask(config, found, count):
                why[run_name(config)] = problem
    else:
        for row in grid.check_all(todo, checker(found, count)):
            problem = row.problem
            if row.report is not None and not row.fits:
                where, report = admission.target_name(found, count), row.report
                limit = report.limit or found.chip.hbm_bytes
                problem = admission.problem(
                    report.compiled.needs, limit, where, "by the TPU compiler"
                )
            if problem:
                why[run_name(row.config)] = problem
    return why


def refuse(configs: "Sequence[RunConfig]", why: dict[str, str]) -> "list[Result]":
    """Results of the runs that were `turned_away`; their directories say so, too."""
    from scaling.config import run_name
    from scaling.executors import admission

    results = [
        admission.refuse(config, FLAGS.workdir, why[run_name(config)])
        for config in configs
        if run_name(config) in why
    ]
    return [result for result in results if result is not None]


def pod_commands(jobs: "Sequence[Job]") -> str:
    """What would be run for each job, for a shell; runs nothing."""
    from scaling.config import run_name
    from scaling.executors import EXECUTORS
    from scaling.executors.pods import desk, shell

    lines = EXECUTORS[FLAGS.executor].commands
    assert lines is not None
    out = []
    for job in jobs:
        names = [run_name(config) for config in job.configs]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        out.append(f"# {names[0]}{more}: {desk.job_file(job, FLAGS.workdir)}")
        out += [shell.text(line) for line in lines(job, FLAGS.workdir, _options())]
    return "\n".join(out)


# ---- on the hosts


def _work_flags() -> None:
    flags.DEFINE_string("job", None, "a file below <workdir>/jobs, written by sweep")


def _work() -> int:
    if FLAGS.job is None:
        raise UserError("work: give --job, a file that `launch.py sweep` has written")
    import jax

    from scaling.config import DistributedConfig
    from scaling.devices import distributed, runtime
    from scaling.executors.jobs import run_job
    from scaling.executors.pods import desk

    job, workdir = desk.take(FLAGS.job)
    runtime.configure()
    with distributed.session(DistributedConfig()):
        stop = stop_on_signals()
        process, several = jax.process_index(), jax.process_count() > 1
        desk.write_ended(FLAGS.job, process, None)
        results = run_job(job, workdir, stop=stop, quiet=process > 0)
        failed = [result for result in results if result.status == "failed"]
        if process == 0 or failed:
            desk.write_ended(FLAGS.job, process, results)
        if several and failed:
            # The others wait for this process: it leaves at once, and they notice.
            raise RuntimeError(failed[0].reason)
    for result in results:
        print(f"{result.status}: {result.reason or ''}".rstrip(": "))
    if any(result.status in ("stopped", "pending") for result in results):
        return RESUME_ME
    return FAILED if failed else 0


COMMANDS = {
    "work": Command(
        "train one job of a sweep; every host of a pod runs it",
        """Train the runs of a job, written by `launch.py sweep` for every host of a slice.

The workdir is that of the job's file.

  python launch.py work --job=gs://bucket/study/jobs/run-0123456789abc.json

Exit codes: 0 done or diverged; 75 stopped by a signal and saved; 1 failed; 2 bad input.""",
        _work_flags,
        _work,
    ),
}
