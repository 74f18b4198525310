"""`launch.py diff` and `verify`: two runs held against each other, and a run against itself."""

from absl import flags

from scaling.commands.command import FLAGS, Command, cpu_devices_flag, given_run
from scaling.errors import FAILED, UserError


def _diff_flags() -> None:
    flags.DEFINE_string("a", None, "a run directory")
    flags.DEFINE_string("b", None, "another one")


def _diff() -> int:
    from scaling.records.comparison import compare, text

    if FLAGS.a is None or FLAGS.b is None:
        raise UserError("diff: give two run directories, e.g. diff out/runs/<a> out/runs/<b>")
    ours, theirs = given_run("a"), given_run("b")
    found = compare(ours, theirs)
    print(text(found, ours.path.name, theirs.path.name))
    return 0 if found.same_result else FAILED


def _verify_flags() -> None:
    flags.DEFINE_string("run", None, "a run directory")
    flags.DEFINE_integer("steps", 10, "to compute again", lower_bound=1)
    cpu_devices_flag()


def _verify() -> int:
    if FLAGS.run is None:
        raise UserError("verify: give a run directory, e.g. verify out/runs/<run>")
    run = given_run("run")
    from scaling.debug.replay import verify
    from scaling.devices import runtime

    runtime.configure(FLAGS.cpu_devices)
    found = verify(run, FLAGS.steps)
    print(found)
    return 0 if found.equal else FAILED


COMMANDS = {
    "diff": Command(
        "what differs between two runs, and where it begins",
        """Name the config fields, the first step and tensor, and the first metrics that differ.

  python launch.py diff out/runs/<run a> out/runs/<run b>

Tensors are compared where both runs took hashes: --config.train.fingerprint_every=10.
Exit codes: 0 what was computed is equal; 1 it differs, or one of them lacks a part of it; 2 bad
input.""",
        _diff_flags,
        _diff,
        arguments=("a", "b"),
    ),
    "verify": Command(
        "compute steps of a run again and compare",
        """Compute some steps of a run again from its newest checkpoint before the last step, and
compare metrics and hashes with what is recorded; writes nothing.

  python launch.py verify out/runs/<run> --steps=20

Exit codes: 0 equal; 1 different; 2 bad input.""",
        _verify_flags,
        _verify,
        arguments=("run",),
    ),
}
