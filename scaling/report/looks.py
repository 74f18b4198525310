"""What figures are drawn for: the page, or the columns of a paper; and the command that draws them.

A `Look` is a width and settings of matplotlib. `drawn_for` makes one hold for a block, and
`style.py` reads it: figures are drawn anew for every look, as text must not shrink with the width.
"""

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.style

from scaling.errors import UserError, nearest

FORMATS = ("pdf", "svg", "png")
# Inches: a column of two, and both, of the usual two-column papers (3.25 and 6.75 of NeurIPS, ICML
# and IEEE are within a tenth).
COLUMNS = {"one": 3.25, "two": 6.75}

_PAPER: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Look:
    """A width, and settings over those of `style.py`."""

    width: float = 5.7  # inches: text is readable on a phone
    marks: float = 1.0  # size of markers over those of the page
    settings: Sequence[dict[str, Any]] = field(default=())


SCREEN = Look()
_current: ContextVar[Look] = ContextVar("look", default=SCREEN)


def current() -> Look:
    """The look that holds here."""
    return _current.get()


@contextlib.contextmanager
def drawn_for(look: Look) -> Iterator[None]:
    """Figures of the block have this look."""
    token = _current.set(look)
    try:
        yield
    finally:
        _current.reset(token)


def paper(column: str = "one", sheet: str | None = None) -> Look:
    """For a paper: text of 8 points in a figure as wide as one column or `two`.

    Args:
      column: a key of COLUMNS, or inches.
      sheet: a style file of matplotlib, or the name of a style that it knows; it wins, its
        `figure.figsize` too.

    Raises UserError for a width that is none and a file that is not there.
    """
    width = COLUMNS.get(column)
    if width is None:
        try:
            width = float(column)
        except ValueError:
            raise UserError(
                f"--column={column} is no width{nearest(column, COLUMNS)}; give one, two or inches"
            ) from None
        if not 1 <= width <= 30:
            raise UserError(f"--column={column} is no width in inches; give 1 to 30")
    if sheet is None:
        return Look(width, 0.6, (_PAPER,))
    try:
        own: Any = matplotlib.style.library.get(sheet) or matplotlib.rc_params_from_file(
            Path(sheet), use_default_template=False
        )
    except OSError:
        raise UserError(
            f"--style={sheet} is neither a file nor a style that matplotlib knows; give a path "
            "such as paper.mplstyle"
        ) from None
    if "figure.figsize" in own:
        width = own["figure.figsize"][0]
    return Look(width, 0.6, (_PAPER, {**own}))


def made_by() -> str:
    """The command of this process, as it would be typed; it stands in every file of a figure."""
    program = Path(sys.argv[0]).name or "python"
    if program.startswith("ipykernel"):
        return "a notebook"
    if program.endswith(".py"):
        program = f"python {program}"
    return " ".join([program, *map(shlex.quote, sys.argv[1:])])
