"""The flags of a benchmark that reads the runs of a study, and what it does with a figure.

Called by the benchmarks that make a table of a study's runs, and a picture if one is asked for.
"""

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scaling.config.sweep import Study
from scaling.records import RunDirectory
from scaling.report import style
from scaling.studies import study


def flags(docstring: str) -> argparse.ArgumentParser:
    """--workdir and --figure, described by a docstring's first line."""
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--workdir", default="out", help="of the study")
    parser.add_argument("--figure", type=Path, help="a PNG or SVG to write")
    return parser


def finished(asked: Study, workdir: str) -> list[tuple[Any, RunDirectory]]:
    """The runs of a study that have ended, in its order: a RunConfig, whose groups have the fields
    of the study's choices, and its directory.
    """
    opened = [(config, RunDirectory.open(config, workdir)) for config in study.runs(asked)]
    return [(config, run) for config, run in opened if run.is_done]


def nothing(workdir: str, study: str) -> SystemExit:
    """To be raised where no run of a study has ended."""
    return SystemExit(f"--workdir={workdir} has no finished run of {study}; sweep it first")


def write(figure: Figure, path: Path) -> None:
    """The figure, in the form that the end of the path's name says."""
    path.write_bytes(style.encode(figure, path.suffix[1:]))
