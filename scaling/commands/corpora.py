"""`launch.py data`: what a corpus holds, before anything trains on it. Imports no jax."""

import dataclasses
import sys
from typing import TYPE_CHECKING

from absl import flags

from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command
from scaling.commands.target import check_json, write_json
from scaling.errors import DataError, SourceError, UserError

if TYPE_CHECKING:
    from scaling.config import DataConfig
    from scaling.data.inspection import Inspection, Split


def _flags() -> None:
    config_flag.define()
    flags.DEFINE_string("source", None, "as data.source, e.g. text:notes.txt; instead of --config")
    flags.DEFINE_string("part", None, "as data.part, of --source")
    flags.DEFINE_integer("lines", 5, "first lines of the train split to show", lower_bound=0)
    flags.DEFINE_string("json", None, "also write it to this file as JSON; - for stdout")


def _run() -> int:
    from scaling.data.inspection import inspect

    check_json()
    data = _given()
    try:
        found = inspect(data, FLAGS.lines)
    except SourceError as error:
        field = "--" if FLAGS.source is not None else "data."
        raise DataError(f"{field}{error.member}: {error}") from error
    text = _text(found).encode("utf-8", "backslashreplace").decode()  # names are any bytes
    print(text, file=sys.stderr if FLAGS.json == "-" else sys.stdout)
    if FLAGS.json:
        write_json(dataclasses.asdict(found))
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
    return dataclasses.replace(RunConfig().data, source=FLAGS.source, part=FLAGS.part)


def _text(found: "Inspection") -> str:
    """For people."""
    from scaling.units import human

    rows = [
        ("documents", f"{found.documents:,}, in all {found.bytes:,} bytes ({human(found.bytes)})"),
        ("longest", f"{found.longest_bytes:,} bytes: {found.longest}"),
        ("copies", f"{found.copies:,} dropped"),
        ("empty", f"{found.empty:,} dropped" + _names(found)),
    ]
    if found.crlf:
        rows.append(("line ends", f"carriage returns in {found.crlf:,} documents, kept"))
    rows += [
        ("tokens", f"{found.train.tokens + found.validation.tokens:,} of {_vocabulary(found)}"),
        ("split by", found.split_by + _why(found)),
        ("train", _side(found.train, found)),
        ("validation", _side(found.validation, found)),
        ("prepared", f"in {found.seconds:.2f} s" + ("" if found.prepared_now else ", earlier")),
        ("corpus", found.corpus),
    ]
    part = "" if found.part == "all" else f", part {found.part}"
    lines = [f"{found.source}{part}", *(f"  {name:11s}{text}" for name, text in rows)]
    for name, side in (("train", found.train), ("validation", found.validation)):
        if not side.windows:
            lines.append(
                f"  The {name} split has not one window of data.seq_len={found.seq_len} tokens: "
                "give more text, or lower data.seq_len"
            )
    if found.first_lines:
        lines += ["as the model sees it:", *(f"  {line[:150]}" for line in found.first_lines)]
    return "\n".join(lines)


def _names(found: "Inspection") -> str:
    more = ", ..." if found.empty > len(found.empty_names) else ""
    return f": {', '.join(found.empty_names)}{more}" if found.empty else ""


def _why(found: "Inspection") -> str:
    wanted = f"data.validation_fraction={found.validation_fraction:g}"
    if found.split_by == "documents":
        return f", each by its own hash, for {wanted}"
    copies = f"; {found.block_copies:,} copies dropped" if found.block_copies else ""
    return f": whole documents do not give {wanted}{copies}"


def _vocabulary(found: "Inspection") -> str:
    return f"a vocabulary of {found.vocab:,} ({found.tokenizer})"


def _side(side: "Split", found: "Inspection") -> str:
    share = side.bytes / max(1, found.train.bytes + found.validation.bytes)
    what = ("document" if found.split_by == "documents" else "block") + "s" * (side.texts != 1)
    return (
        f"{side.tokens:,} tokens in {side.texts:,} {what}, {side.bytes:,} bytes ({share:.1%}); "
        f"{side.windows:,} window{'' if side.windows == 1 else 's'} of {found.seq_len}"
    )


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
