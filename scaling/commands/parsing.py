"""From a command line to a command whose flags are set; a mistake is one line that names the flag.

`parse` takes what stands behind `launch.py` and gives the command of `COMMANDS`, ready to run; what
no value can be (a missing one, an empty one, text for a number, one out of its range) is refused
here, before anything is imported or read. Called by `launch.py`.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence

from absl import flags

from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command
from scaling.errors import UserError, nearest

_HELP = {"--help", "-h", "--helpfull"}
_MAY_BE_EMPTY = {"prompt"}  # a model may begin by itself


def parse(argv: Sequence[str], commands: Mapping[str, Command]) -> tuple[Command, bool]:
    """The command that `argv` begins with, and whether its help is asked for; its flags are set.

    Raises UserError for a command, a flag or a value that cannot be.
    """
    name, rest = argv[0], list(argv[1:])
    if name not in commands:
        raise UserError(f"{name} is no command{nearest(name, commands)}")
    command = commands[name]
    command.define_flags()
    if _HELP & set(rest):
        return command, True
    rest = config_flag.gather(name, rest)
    _check_names(name, rest)
    try:
        extra = FLAGS([f"launch.py {name}", *rest])[1:]
    except flags.Error as error:
        raise UserError(_illegal(str(error))) from error
    given = dict(zip(command.arguments, extra, strict=False))
    extra = extra[len(given) :]
    for flag, value in given.items():
        FLAGS[flag].value = value
        FLAGS[flag].present += 1
    if extra:
        raise UserError(f"{name}: {extra[0]!r} is no flag; flags start with --")
    _check_values()
    return command, False


def _check_names(command: str, rest: Sequence[str]) -> None:
    """Every word that begins as a flag is one, and has a value where it needs one."""
    words = list(rest)
    while words:
        word = words.pop(0)
        if word == "--":
            return
        if not word.startswith("-") or word == "-" or _number(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        bare = name.removeprefix("no")
        if name not in FLAGS and bare in FLAGS and FLAGS[bare].boolean:
            if equals:
                raise UserError(f"--{name}={value}: --{name} takes no value; or say --{bare}=false")
            continue
        if name not in FLAGS:
            close = difflib.get_close_matches(name, list(FLAGS), n=1, cutoff=0.6)
            hint = f'did you mean "{close[0]}"?' if close else f"{command} --help lists its flags"
            raise UserError(f"{command} has no flag --{name} ({hint})")
        if equals or FLAGS[name].boolean:
            continue
        if not words or (words[0].startswith("-") and words[0] != "-" and not _number(words[0])):
            raise UserError(f"--{name} needs a value: --{name}=... ({_help(name)})")
        words.pop(0)


def _help(name: str) -> str:
    return FLAGS[name].help.partition(";\n")[0]  # absl says of some that they may be repeated


def _number(word: str) -> bool:
    return re.fullmatch(r"-\.?\d.*", word) is not None


def _illegal(text: str) -> str:
    """What the parser of flags says, as what the flag may be."""
    found = re.match(r"flag --([^=]+)=(.*?): ", text, flags=re.DOTALL)
    if not found or found[1] not in FLAGS:
        return text
    name, value = found[1], found[2]
    return f"--{name}={value} must be {_wanted(FLAGS[name])}"


def _wanted(flag: flags.Flag) -> str:
    parser = flag.parser
    if flag.boolean:
        return f"true or false; or say --{flag.name} or --no{flag.name}"
    if values := getattr(parser, "enum_values", None):
        return f"one of {', '.join(values)}"
    kind = "a whole number" if flag.flag_type() == "int" else "a number"
    low, high = getattr(parser, "lower_bound", None), getattr(parser, "upper_bound", None)
    bounds = [f"of at least {low:g}"] if low is not None else []
    bounds += [f"at most {high:g}"] if high is not None else []
    return f"{kind} {' and '.join(bounds)}".rstrip()


def _check_values() -> None:
    """What the types of flags let pass: nothing at all, and numbers that are none."""
    for name in FLAGS:
        flag = FLAGS[name]
        if not flag.present:
            continue
        empty = "" in flag.value if isinstance(flag.value, list) else flag.value == ""
        if empty and flag.default != "" and name not in _MAY_BE_EMPTY:
            raise UserError(f"--{name}= is empty; give it a value, or leave it out ({_help(name)})")
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise UserError(f"--{name}={flag.value} must be {_wanted(flag)}")
