"""`launch.py check` and `generate`: a run before it is trained, and a model after."""

from absl import flags
from ml_collections import config_flags

from scaling.commands.command import FLAGS, Command, cpu_devices_flag
from scaling.errors import UserError


def _check_flags() -> None:
    config_flags.DEFINE_config_file("config", None, "a base config, e.g. configs/lm.py")
    cpu_devices_flag()


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
