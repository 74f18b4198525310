"""`launch.py data`: what a corpus holds, before anything trains on it. Imports no jax."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from scaling import files
from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command
from scaling.commands.target import check_json, write_json
from scaling.errors import DataError, SourceError, UserError

if TYPE_CHECKING:
    from scaling.config import DataConfig


def _flags() -> None:
    config_flag.define()
    flags.DEFINE_string("source", None, "as data.source, e.g. text:notes.txt; instead of --config")
    flags.DEFINE_string("part", None, "as data.part, of --source")
    flags.DEFINE_integer("lines", 5, "first lines of the train split to show", lower_bound=0)
    flags.DEFINE_string("json", None, "also write it to this file as JSON; - for stdout")


def _run() -> int:
    from scaling.config import choices

    check_json()
    data = _given()
    inspect = choices.kind(data).inspect
    if inspect is None:
        raise UserError(f"data: data.kind={data.kind} has nothing to look into before a run")
    try:
        said, found = inspect(data, FLAGS.lines, files.data_dir())
    except SourceError as error:
        field = "--" if FLAGS.source is not None else "data."
        raise DataError(f"{field}{error.member}: {error}") from error
    text = said.encode("utf-8", "backslashreplace").decode()  # names are any bytes
    print(text, file=sys.stderr if FLAGS.json == "-" else sys.stdout)
    if FLAGS.json:
        write_json(found)
    return 0


def _given() -> "DataConfig":
    """The data of --source or --config."""
    from scaling.config import RunConfig

    if (FLAGS.config is None) == (FLAGS.source is None):
        raise UserError(
            "data: give either --source, e.g. --source=text:notes.txt, or --config, with "
            "--config.data.source for another source"
        )
    if FLAGS.config is not None:
        if FLAGS.part is not None:
            raise UserError("data: --part is of --source; with --config give --config.data.part")
        return config_flag.given().data
    if config_flag.fields():
        raise UserError("data: --config.<field> changes a config; give --config, not --source")
    data: Any = RunConfig().data
    return dataclasses.replace(data, source=FLAGS.source, part=FLAGS.part)


COMMANDS = {
    "data": Command(
        "what a corpus holds, and how it is split, before anything trains on it",
        """Read a corpus as a run would, prepare it, and say what is in it; trains nothing.

  python launch.py data --source=text:notes.txt
  python launch.py data 'jsonl:logs/*.jsonl.gz#body'
  python launch.py data --config=configs/lm.py --config.data.tokenizer=bpe""",
        _flags,
        _run,
        arguments=("source",),
    ),
}
