"""The page of what went on inside the watched runs: a figure a kind, RMS by module over steps.

Takes the curves of runs (`scaling.records.tables.curves`), of which some have lines of the split
"watch" (`train.watch_every`); writes `watch.html` and its figures. Called by `build.py`.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling import files
from scaling.report import style
from scaling.report.figures import Drawn, save
from scaling.report.page import embedded, now, template_of

PAGE = "watch.html"
KINDS = {
    "activation": ("activations", "what each module gives, over all entries of the batch"),
    "logits": ("attention logits", "every query with every key that it sees, before the softmax"),
    "gradient": ("gradients", "of the loss, at the module's parameters, before clipping"),
    "update": ("updates", "the change that a step makes to the module's parameters"),
}
_MOST = 8  # runs on the page
_BLOCK = re.compile(r"(.+)\.(\d+)(?:\.(.+))?")  # blocks.3, blocks.3.attention
_STREAM, _AROUND = "stream after a block", "around the blocks"


def write_page(curves: Mapping[str, pd.DataFrame], out: epath.Path) -> int:
    """Writes the page below `out`, if a run was watched; how many were."""
    watched = {name: curve for name, curve in curves.items() if "watch" in set(curve["split"])}
    runs = []
    for name in list(watched)[:_MOST]:
        drawn = list(figures_of(name, watched[name]))
        for figure in drawn:
            save(figure, out / "figures")
        runs.append({"name": name, "figures": [embedded(figure) for figure in drawn]})
    if runs:
        page = template_of("watch.html.jinja")
        left = len(watched) - len(runs)
        files.write_atomic(out / PAGE, page.render(runs=runs, left=left, written=now()).encode())
    return len(watched)


def figures_of(run: str, curve: pd.DataFrame) -> Iterable[Drawn]:
    """One for each kind of statistic that the run has."""
    lines = curve[curve["split"] == "watch"].dropna(axis="columns", how="all")
    for kind, (title, what) in KINDS.items():
        columns = [c for c in lines.columns if c.startswith(f"{kind}/")]
        if columns:
            rows = lines.melt("step", columns, "module", "rms").astype({"rms": float})
            rows["module"] = rows["module"].str.partition("/")[2]
            rows = rows.sort_values(["step", "module"], kind="stable", ignore_index=True)
            caption = f"RMS of {title} by module: {what}. Blocks from the first, dark, to the "
            caption += "last, light."
            figure = _figure(rows)
            yield Drawn(f"watch-{run}-{kind}", f"RMS of {title}", caption, figure, rows)


def _figure(rows: pd.DataFrame) -> Figure:
    """Axes for each part of a block; within them a line for each block."""
    panels: dict[str, list[tuple[str, int]]] = {}
    for module in rows["module"].unique():
        found = _BLOCK.fullmatch(module)
        part = _AROUND if found is None else found[3] or _STREAM
        panels.setdefault(part, []).append((module, -1 if found is None else int(found[2])))
    order = sorted(panels, key=lambda part: (part not in (_AROUND, _STREAM), part))
    depth = 1 + max(number for modules in panels.values() for _, number in modules)
    ways = min(2, len(order))
    high = -(-len(order) // ways)
    with style.styled():
        figure = style.canvas((0.7 + 2.1 * high) / 5.7)
        grid = figure.subplots(high, ways, sharex=True, squeeze=False).ravel()
        for axes, part in zip(grid, order, strict=False):
            _panel(axes, rows, part, sorted(panels[part], key=lambda m: m[1]), depth)
        for axes in grid[len(order) :]:  # with the panel above it as the lowest of its column
            axes.remove()
            grid[len(order) - ways].tick_params(labelbottom=True)
        figure.supxlabel("step", fontsize="medium")
        figure.supylabel("RMS", fontsize="medium")
        style.finish(figure)
    return figure


def _panel(
    axes: Axes, rows: pd.DataFrame, part: str, modules: list[tuple[str, int]], depth: int
) -> None:
    colours = style.ramp(depth)
    values = []
    for i, (module, number) in enumerate(modules):
        of = rows[rows["module"] == module]
        colour = colours[number] if number >= 0 else style.COLOURS[i % len(style.COLOURS)]
        label = module if number < 0 else None
        positive = of["rms"].where(of["rms"] > 0)  # a last update, at a rate of 0, has no log
        axes.plot(of["step"], positive, marker=".", ms=4, lw=1.3, color=colour, label=label)
        values.append(of["rms"].to_numpy(float))
    finite = np.concatenate(values)
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if finite.size:
        style.loss_axis(axes, float(finite.min()), float(finite.max()))
    style.count_axis(axes, list(rows["step"]), log=False)
    axes.set_title(part, fontsize="medium")
    if modules[0][1] < 0:
        axes.legend(fontsize="x-small")
