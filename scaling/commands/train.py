"""`launch.py train`: one run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from scaling.commands import config_flag, tracking
from scaling.commands.command import (
    FLAGS,
    Command,
    check_file,
    cpu_devices_flag,
    given_run,
    preparing,
    stop_on_signals,
    workdir_flag,
)
from scaling.errors import DIVERGED, RESUME_ME, UserError

if TYPE_CHECKING:
    from scaling.records import RunDirectory


def _train_flags() -> None:
    config_flag.define()
    flags.DEFINE_string("run", None, "go on with a run directory, instead of --config")
    workdir_flag()
    cpu_devices_flag()
    tracking.track_flag()
    flags.DEFINE_bool("check_memory", True, "refuse a run that needs more than a device has")


def _train() -> int:
    tracking.check()
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

    from scaling.config import run_name
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
        names = [run_name(config)] if jax.process_index() == 0 else []
        with tracking.tracked(None, names, workdir):
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
}
