"""`launch.py export` and `import`: models for other programs, and theirs as runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command, check_file, given_run, workdir_flag
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunDirectory

_FORMS, _DTYPES = ["hf", "safetensors", "jax_export"], ["float32", "bfloat16", "float16"]


def _export_flags() -> None:
    flags.DEFINE_string("run", None, "a run directory with a checkpoint")
    flags.DEFINE_string("out", None, "the folder to make")
    flags.DEFINE_enum(
        "to",
        "hf",
        _FORMS,
        "hf: for transformers; safetensors: our own names; jax_export: with the program",
    )
    flags.DEFINE_enum("dtype", None, _DTYPES, "of the weights, but with --to=safetensors")


def _export() -> int:
    if FLAGS.run is None or FLAGS.out is None:
        raise UserError("export: give --run, a run directory, and --out, the folder to make")
    if FLAGS.to == "safetensors" and FLAGS.dtype:
        raise UserError(f"--dtype={FLAGS.dtype} changes nothing with --to={FLAGS.to}; leave it out")
    run = given_run("run")
    from scaling.devices import runtime

    runtime.configure()
    from scaling.exchange import outward

    out = Path(FLAGS.out)
    if FLAGS.to == "hf":
        outward.transformers(run, out, FLAGS.dtype)
    elif FLAGS.to == "safetensors":
        outward.plain(run, out)
    else:
        _program(run, out)
    made = sorted(path.name for path in out.iterdir())
    print(f"wrote {', '.join(made)} in {out}")
    return 0


def _program(run: "RunDirectory", out: Path) -> None:
    from scaling.exchange import program

    lowered, refused = program.write(run, out, FLAGS.dtype)
    print(f"a program of any number of rows, for {', '.join(lowered.platforms)}")
    for platform, why in refused.items():
        print(f"not for {platform}: {why}")


def _import_flags() -> None:
    config_flag.define("configs/lm.py")
    flags.DEFINE_string("from", None, "a folder with config.json and weights as safetensors")
    flags.DEFINE_bool("tokenizer", True, "take the folder's tokenizer.json, if there is one")
    workdir_flag()


def _import() -> int:
    check_file("config")
    given = FLAGS["from"].value
    if given is None:
        raise UserError("import: give --from, a folder with config.json and weights as safetensors")
    source = Path(given)
    if not source.is_dir():
        raise UserError(f"--from={source} is no folder; give one with config.json and weights")
    from scaling.devices import runtime

    runtime.configure()
    from scaling.exchange import inward
    from scaling.records.status import validation_loss
    from scaling.studies import study

    base = study.load_config(FLAGS.config)
    run, outcome = inward.bring(source, FLAGS.workdir, base, config_flag.changed, FLAGS.tokenizer)
    print(f"{outcome.status}: {run.path}")
    if (loss := validation_loss(run)) is not None:
        print(f"validation loss {loss:.4f}")
    return 0


COMMANDS = {
    "export": Command(
        "write a run's model for other programs",
        """Write the weights of a run as safetensors, with config.json and tokenizer.json, so that
transformers loads the folder; adapters are merged. What was imported goes out as it came in.

  python launch.py export --run=out/runs/<run> --out=out/model
  python launch.py export --run=out/runs/<run> --out=out/model --dtype=bfloat16
  python launch.py export --run=out/runs/<run> --out=out/weights --to=safetensors
  python launch.py export --run=out/runs/<run> --out=out/program --to=jax_export

The last writes the forward pass too, as a program that jax alone runs.""",
        _export_flags,
        _export,
    ),
    "import": Command(
        "a model that transformers has saved, as a run",
        """Make a run directory of a folder with config.json and safetensors: it is evaluated on the
data of --config, and then as any run: tabled, fine-tuned (begins.run), generated from, exported.

  python launch.py import --from=downloads/model --workdir=out
  python launch.py import --from=downloads/model --config=configs/lm.py --config.evals.batches=64
  python launch.py import --from=downloads/model --config.train.tokens=15e12

The last says how many tokens the model was trained on, which no folder does.""",
        _import_flags,
        _import,
    ),
}
