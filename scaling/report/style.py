"""One look for every figure: colours that colour-blind readers tell apart, human ticks, no pyplot.

Gives an empty Figure with its axes, tick rules and the bytes of a finished Figure. Called by
`scaling/report/figures.py`. matplotlib's settings are changed only inside `styled()`, and every
Figure is drawn by Agg or the SVG writer, so that nothing needs a display.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from scaling.report import looks
from scaling.units import human

# Okabe and Ito, "Color Universal Design" (2008), without black and yellow.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = (
    *("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7"),
)
COLOURS = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
# Three colours of their own, so that the page can replace them when it is dark.
INK, PAPER, GRID = "#24292f", "#fefefe", "#d7dce1"

_LEAST_HIGH = 4.0  # inches of width to which heights are in proportion, at the least
_LETTERS = 140  # of a legend of one point that are as wide as an inch

_SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "scaling",
    "pdf.fonttype": 42,  # TrueType, which is text to those who search and copy
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The settings of our figures, and of their look, as long as the block lasts."""
    with matplotlib.style.context(["default", _SETTINGS, *looks.current().settings]):
        yield


def new_figure(strip: bool = False) -> tuple[Figure, list[Axes]]:
    """A Figure and its axes, to be used inside `styled()`.

    With `strip` there is a low second axes under the first, sharing its horizontal axis.
    """
    figure = canvas(5.2 / 5.7 if strip else 4.3 / 5.7)
    if strip:
        return figure, list(figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2)))
    return figure, [figure.add_subplot()]


def canvas(height: float) -> Figure:
    """An empty Figure as wide as the look says, and `height` times as high; inside `styled()`. A
    narrow one is higher than that: its labels and its legend are no shorter.
    """
    width = looks.current().width
    figure = Figure(figsize=(width, height * max(width, _LEAST_HIGH)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def ramp(count: int) -> list[str]:
    """`count` colours from dark to light, for things that have an order (sizes)."""
    places = np.linspace(0.2, 0.8, count) if count > 1 else [0.45]
    return [to_hex(matplotlib.colormaps["viridis"](place)) for place in places]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive bounds, three to nine of them where there are as many."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    inside: list[float] = []
    for step in (3, 2, 1):
        chosen = decades[decades % step == 0]
        inside = [t for t in 10.0**chosen if low <= t <= high]
        if len(inside) >= 4:
            return inside
    for subs in ((1, 3), (1, 2, 5), (1, 2, 3, 4, 6, 8)):
        inside = [s * t for t in 10.0**decades for s in subs if low <= s * t <= high]
        if len(inside) >= 3:
            return inside
    return [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]


def round_ticks(low: float, high: float) -> list[float]:
    """Evenly spaced round numbers between two losses, or round powers when they are far apart."""
    if high / low > 8:
        return log_ticks(low, high)
    even = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [t for t in even if low <= t <= high]


def count_axis(axes: Axes, values: Sequence[float], log: bool = True) -> None:
    """A logarithmic horizontal axis around `values`, with ticks such as 10k, 100k, 1M.

    Linear when asked for, when a value is not positive, or when all are the same.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if low <= 0 or low == high or not log:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    room = (high / low) ** 0.06
    low, high = low / room, high * room
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis from `low` to `high` (and some room) with plain decimal ticks."""
    if low > 0 and high > low:
        room = (high / low) ** 0.06
        low, high = low / room, high * room
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(round_ticks(low, high)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def legend_below(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """The legend under the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        # Entries beside each other: as many as the figure is wide, in letters.
        points = FontProperties(size=matplotlib.rcParams["legend.fontsize"]).get_size_in_points()
        wide = _LETTERS * figure.get_figwidth() / points
        most = max(1, min(3 if title is None else 5, int(wide / (6 + max(map(len, labels))))))
        rows = -(-len(handles) // most)
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            title=title,
            ncols=-(-len(handles) // rows),
            columnspacing=1.2,
            handletextpad=0.5,
        )


def finish(figure: Figure) -> None:
    """Lays the figure out, once for all the formats it is written in; marks take their look."""
    for line in figure.findobj(Line2D):
        line.set_markersize(line.get_markersize() * looks.current().marks)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def encode(figure: Figure, kind: str) -> bytes:
    """The figure as "svg" or "pdf" (text stays text) or "png": of a command, the same bytes every
    time. The command stands in it.
    """
    out = io.BytesIO()
    command = looks.made_by()
    named: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None, "Description": command},
        "png": {"Software": None, "Description": command},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Subject": command},
    }
    with styled():
        figure.savefig(out, format=kind, dpi=160, metadata=named[kind])
    return out.getvalue()


def inline_svg(source: bytes, prefix: str) -> str:
    """An SVG for the inside of a page: no XML head, ids that begin with `prefix`, and the page's
    colours for ink, paper, grid and blue (`--ink`, `--paper`, `--grid`, `--blue`).
    """
    text = source.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    for colour, name in ((INK, "ink"), (PAPER, "paper"), (GRID, "grid"), (BLUE, "blue")):
        text = text.replace(colour, f"var(--{name})")
    return text
