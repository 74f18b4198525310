"""The flags of `launch.py sweep`, and which of them can be meant together."""

import dataclasses

from absl import flags

from scaling.commands import tracking
from scaling.commands.command import FLAGS, experiment_flag, options_flags, workdir_flag
from scaling.commands.target import target_flags
from scaling.errors import UserError


def define() -> None:
    """The flags of the command."""
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
    tracking.track_flag()
    target_flags()
    for name, executor in EXECUTORS.items():
        if executor.options:
            options_flags(name, executor.options)


def check() -> None:
    """Raises UserError for flags that would change nothing, or what cannot be."""
    from scaling.executors import EXECUTORS
    from scaling.executors import plan as plan_lib

    plan_lib.most_members(FLAGS.pack or "off")
    tracking.check()
    if FLAGS.track and FLAGS.tune:
        raise UserError(f"--track={FLAGS.track} is told nothing of a search; sync it afterwards")
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
