"""`launch.py check` and `generate`: a run before it is trained, and a model after."""

import json
import sys

from absl import flags
from etils import epath

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
        stated = choices.stated(config.model, config.data) or {}
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
    flags.DEFINE_string("prompts", None, "a file with a prompt a line; gives JSON lines")
    flags.DEFINE_integer("tokens", 200, "tokens to generate", lower_bound=1)
    flags.DEFINE_float("temperature", 0.8, "0: always the likeliest token", lower_bound=0)
    flags.DEFINE_integer("top_k", None, "sample from the k likeliest tokens only", lower_bound=1)
    flags.DEFINE_float(
        "top_p", None, "sample from the likeliest of this probability in all", 1e-6, 1.0
    )
    flags.DEFINE_float("repetition_penalty", 1.0, "of tokens that are there; 1: none", 1.0)
    flags.DEFINE_multi_string("stop", [], "a text before which to end; may be given again")
    flags.DEFINE_integer("seed", 0, "of the sampling")
    flags.DEFINE_integer("beams", 1, "of a run that translates: texts followed", lower_bound=1)


def _generate() -> int:
    if FLAGS.run is None:
        raise UserError("generate: give --run, a run directory such as out/runs/<run>")
    run, prompts = given_run("run"), _prompts()
    from scaling.devices import runtime
    from scaling.families.decoding import Sampling
    from scaling.serving.continuation import continue_texts

    runtime.configure()
    texts = continue_texts(
        run.path,
        prompts,
        FLAGS.tokens,
        sampling=Sampling(FLAGS.temperature, FLAGS.top_k, FLAGS.top_p, FLAGS.repetition_penalty),
        stops=FLAGS.stop,
        seed=FLAGS.seed,
        beams=FLAGS.beams,
        tell=(lambda text: print(text, end="", flush=True)) if FLAGS.prompts is None else None,
    )
    if FLAGS.prompts is None:
        print()
        return 0
    for prompt, text in zip(prompts, texts, strict=True):
        print(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False))
    return 0


def _prompts() -> list[str]:
    """--prompt, or the lines of --prompts that are not empty. Raises UserError."""
    if FLAGS.prompts is None:
        return [FLAGS.prompt]
    if FLAGS["prompt"].present:
        raise UserError("generate: give --prompt or --prompts, not both")
    try:
        lines = epath.Path(FLAGS.prompts).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts={FLAGS.prompts} cannot be read: {error}") from error
    if not (prompts := [line for line in lines if line]):
        raise UserError(f"--prompts={FLAGS.prompts} has no prompt in it; write one a line")
    return prompts


COMMANDS = {
    "check": Command(
        "does a run fit, on devices that need not be here; memory, collectives, time",
        """Say how a run lies on its mesh and what it costs; trains nothing.

  python launch.py check --config=configs/lm.py
  python launch.py check --config=configs/lm.py --cpu_devices=8 --config.mesh.fsdp=4
  python launch.py check --config=out/runs/<run> --cpu_devices=8 --config.mesh.fsdp=4
  python launch.py check --config=configs/lm.py --table""",
        _check_flags,
        _check,
    ),
    "generate": Command(
        "continue a prompt with a trained run",
        """Continue a prompt with the newest checkpoint of a run.

  python launch.py generate out/runs/<run> --prompt='def main(' --tokens=200 --top_p=0.9
  python launch.py generate out/runs/<run> --prompts=prompts.txt --stop='return'""",
        _generate_flags,
        _generate,
        arguments=("run",),
    ),
}
