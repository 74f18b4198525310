"""`launch.py completion`: a script with which bash or zsh completes commands, flags and values.

All of it stands in the script: a press of Tab starts no Python. It is made from the flags that the
commands define, and from the fields of every config.
"""

import pathlib
from collections.abc import Iterator, Mapping

from absl import flags

from scaling import place
from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command
from scaling.errors import UserError

SHELLS = ("bash", "zsh")
_FRONTS = {
    "bash": r"""
_scaling() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##* }
    local before=(${line%"$word"})  # the program, the command, its flags
    local command=${before[1]}
    if [[ $word == --*=* ]]; then
        COMPREPLY=($(compgen -W "$(_scaling_values "${word%%=*}")" -- "${word#*=}"))
    else
        COMPREPLY=($(compgen -W "$(_scaling_words "$command")" -- "$word"))
        [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _scaling scaling
""",
    "zsh": r"""
_scaling() {
    local word=${words[CURRENT]} command=""
    (( CURRENT > 2 )) && command=${words[2]}
    if [[ $word == --*=* ]]; then
        compset -P '*='
        compadd -- ${=$(_scaling_values "${word%%=*}")} || _files
    else
        compadd -S '' -- ${(M)${=$(_scaling_words "$command")}:#*=}
        compadd -- ${${=$(_scaling_words "$command")}:#*=}
    fi
}
compdef _scaling scaling
""",
}


def script(shell: str, commands: Mapping[str, Command]) -> str:
    """The text that a shell is to `eval`; flags that are defined now are forgotten."""
    words, values = dict[str, list[str]](), _values()
    for name, command in commands.items():
        _forget()
        command.define_flags()
        words[name] = [*_words()]
        for flag in _own():
            if options := getattr(flag.parser, "enum_values", None):
                values[flag.name] = options
                words[name] += options if flag.name in command.arguments else []
    _forget()
    body = "_scaling_words() {\n" + _case(words | {'""': [*commands]}) + "}\n"
    body += "_scaling_values() {\n" + _case({f"--{k}": v for k, v in values.items()}) + "}"
    return body + _FRONTS[shell]


def _case(found: Mapping[str, list[str]]) -> str:
    lines = [f"    {name}) echo '{' '.join(words)}' ;;\n" for name, words in found.items()]
    return '    case "$1" in\n' + "".join(lines) + "    esac\n"


def _own() -> list[flags.Flag]:
    modules = FLAGS.flags_by_module_dict().items()
    return [f for name, found in modules if name.startswith("scaling.") for f in found]


def _forget() -> None:
    for flag in _own():
        delattr(FLAGS, flag.name)


def _words() -> Iterator[str]:
    """The flags that are defined, with "=" where a value follows; of a config every field."""
    for flag in sorted(_own(), key=lambda flag: flag.name):
        if flag.name == config_flag.FIELDS:
            yield from (f"--config.{field}=" for field in _fields())
        else:
            yield f"--{flag.name}" + "=" * (not flag.boolean)


def _fields() -> list[str]:
    """Every field that some config has: of all families, kinds of data, objectives, transforms."""
    from scaling.config import RunConfig, choices, flat
    from scaling.config.nested import flatten, plain

    found = {*flat(RunConfig())}
    for group in choices.ROOMS:
        for name in choices.registry(group):
            found |= {*flatten(plain(choices.new(group, name)), f"{group}.")}
    return sorted(found)


def _values() -> dict[str, list[str]]:
    """Flag -> what a person may mean, beside files of his own."""
    from scaling.laws import LAWS

    shipped = {
        flag: [path.relative_to(place.root()).as_posix() for path in _files(folder)]
        for flag, folder in (("config", "configs"), ("experiment", "experiments"))
    }
    return shipped | {"law": [*LAWS]}


def _files(folder: str) -> list[pathlib.Path]:
    return sorted((place.root() / folder).rglob("*.py"))


def _completion_flags() -> None:
    flags.DEFINE_enum("shell", None, SHELLS, "bash or zsh")


def _completion() -> int:
    from scaling.commands import COMMANDS

    shell = FLAGS.shell
    if shell is None:
        raise UserError(f"completion: of which shell: {' or '.join(SHELLS)}")
    print(script(shell, COMMANDS))
    return 0


COMMANDS = {
    "completion": Command(
        "completion of commands, flags and config fields, for bash and zsh",
        """Print a script that completes commands, flags, their values and config fields.

  scaling completion bash > ~/.scaling.bash    # and in ~/.bashrc: source ~/.scaling.bash
  scaling completion zsh > ~/.scaling.zsh      # in ~/.zshrc, behind compinit: source ~/.scaling.zsh

It completes `scaling`, which `pip install`, of a checkout too, puts on the path.""",
        _completion_flags,
        _completion,
        arguments=("shell",),
    ),
}
