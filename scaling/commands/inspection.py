"""`launch.py check` and `generate`: a run before it is trained, and a model after."""

import sys

from absl import flags

from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command, given_run
from scaling.commands.target import checker, target_flags, write_json
from scaling.config import choices
from scaling.errors import FAILED, UserError


def _check_flags() -> None:
    config_flag.define()
    target_flags()
    flags.DEFINE_integer("devices", None, "another name of --cpu_devices", lower_bound=1)
    flags.DEFINE_bool("table", False, "only the parameters: roles, learning rates, multipliers")
    flags.DEFINE_bool("propose", True, "if it does not fit, look for what would")


def _check() -> int:
    if FLAGS.config is None:
        raise UserError("check: give --config, e.g. --config=configs/lm.py")
    if FLAGS.table:
        return _table()
    from scaling.check import target as target_lib

    topology = target_lib.prepare(FLAGS.topology)
    from scaling.check.propose import Attempt, propose
    from scaling.check.report import as_dict
    from scaling.check.text import text, verdict
    from scaling.studies import study

    check = checker(topology)
    config = study.resolve_planned(config_flag.given())
    report = check(config)
    human = sys.stderr if FLAGS.json == "-" else sys.stdout
    print(text(report), file=human)
    if config.data.corpus == study.PLANNED:
        stated = choices.family(config.model).stated(config.model) or {}
        said = ", ".join(f"model.{name}={size}" for name, size in stated.items())
        print(f"(sizes as {said} says; no data read)", file=human)

    tried: list[Attempt] = []

    def on_try(attempt: Attempt) -> None:
        tried.append(attempt)
        said = verdict(attempt.report) if attempt.report else f"REFUSED: {attempt.problem}"
        print(f"tried {attempt.flags}: {said}", file=human, flush=True)

    found = None
    if not report.fits and FLAGS.propose:
        print("looking for what would fit ...", file=human, flush=True)
        found = propose(report, check, on_try)
        if found is None:
            print("nothing that was tried fits; give it more devices", file=human)
        else:
            print(f"WOULD FIT with {found.flags}", file=human)
    if FLAGS.json:
        values = as_dict(report) | {
            "tried": [
                {
                    "changes": a.changes,
                    "fits": a.fits,
                    "bytes_needed": a.report.compiled.needs if a.report else None,
                    "problem": a.problem,
                }
                for a in tried
            ],
            "proposal": None
            if found is None or found.report is None
            else {"changes": found.changes, "flags": found.flags, "report": as_dict(found.report)},
        }
        write_json(values)
    return 0 if report.fits else FAILED


def _table() -> int:
    from scaling.check import parameters
    from scaling.studies import study

    config = study.resolve_planned(config_flag.given())
    print(parameters.text(config), file=sys.stderr if FLAGS.json == "-" else sys.stdout)
    if FLAGS.json:
        write_json(parameters.as_list(config))
    return 0


def _generate_flags() -> None:
    flags.DEFINE_string("run", None, "a run directory with a checkpoint")
    flags.DEFINE_string("prompt", "def ", "text to continue, or to translate")
    flags.DEFINE_integer("tokens", 200, "tokens to generate", lower_bound=1)
    flags.DEFINE_float("temperature", 0.8, "0: always the likeliest token", lower_bound=0)
    flags.DEFINE_integer("top_k", None, "sample from the k likeliest tokens only", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the sampling")
    flags.DEFINE_integer("beams", 1, "of a run that translates: texts followed", lower_bound=1)


def _generate() -> int:
    if FLAGS.run is None:
        raise UserError("generate: give --run, a run directory such as out/runs/<run>")
    run = given_run("run")
    from scaling.commands.continuation import continue_text
    from scaling.devices import runtime

    runtime.configure()
    text = continue_text(
        run.path,
        FLAGS.prompt,
        FLAGS.tokens,
        temperature=FLAGS.temperature,
        top_k=FLAGS.top_k,
        seed=FLAGS.seed,
        beams=FLAGS.beams,
    )
    print(text)
    return 0


COMMANDS = {
    "check": Command(
        "does a run fit, on devices that need not be here; memory, collectives, time",
        """Say how a run lies on its mesh and what it costs; trains nothing.

  python launch.py check --config=configs/lm.py
  python launch.py check --config=configs/lm.py --cpu_devices=8 --config.mesh.fsdp=4
  python launch.py check --config=configs/lm.py --table""",
        _check_flags,
        _check,
    ),
    "generate": Command(
        "continue a prompt with a trained run",
        """Continue a prompt with the newest checkpoint of a run.

  python launch.py generate out/runs/<run> --prompt='def main(' --tokens=200""",
        _generate_flags,
        _generate,
        arguments=("run",),
    ),
}
