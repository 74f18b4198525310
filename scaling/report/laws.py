"""Figures of a law: contours, isoFLOP valleys, envelope, residuals, bootstrap cloud, choices.

Takes what `scaling.laws.fit_command` made (or a Fit and its table) and gives `Drawn`s, as
`figures.py` does. Called by `launch.py fit --out`. Nothing is fitted here.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from etils import epath
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from scaling import files
from scaling.errors import UserError
from scaling.laws import LAWS, Fit
from scaling.laws.backtests import Backtest
from scaling.laws.isoflop import Optimum, isoflop
from scaling.laws.outcome import Outcome
from scaling.laws.planning import optimum
from scaling.laws.shapes import FLOPS_PER
from scaling.report import looks, style
from scaling.report.figures import Drawn, save
from scaling.report.law_page import render_law
from scaling.report.paper import Paper
from scaling.report.style import BLUE, INK, ORANGE, RED, SKY
from scaling.report.words import measured, words_of
from scaling.units import human


def _measure(table: pd.DataFrame, loss: str, unit: bool = False) -> str:
    """What the column of the loss is called, with its unit; of a table from elsewhere, its name."""
    metric = words_of(table).metrics.get(loss) if "objective" in table else None
    if metric is None:
        return loss
    return measured(metric) if unit else metric.label


def _higher(table: pd.DataFrame, loss: str) -> bool:
    """Whether more of that column is better."""
    metric = words_of(table).metrics.get(loss)
    return metric is not None and metric.better == "higher"


def _data(table: pd.DataFrame, column: str) -> str:
    """What the column of a size is called: a law's tokens are whatever the data are counted in."""
    unit = words_of(table).unit
    return f"{unit}s" if unit and column in ("amount", "tokens") else column


def contours(fit: Fit, table: pd.DataFrame) -> Drawn:
    """Loss over params and the amount of data, the runs, and the compute-optimal frontier with its
    band.
    """
    columns = {k: table[fit.x[k]].to_numpy(float) for k in ("params", "tokens")}
    amount, measure = _data(table, fit.x["tokens"]), _measure(table, fit.loss)
    title = f"{measure[:1].upper()}{measure[1:]} over params and {amount}"
    params, units = (
        np.geomspace(v.min() / 2, v.max() * 4, 160) for v in (columns["params"], columns["tokens"])
    )
    wide, long = np.meshgrid(params, units)
    loss = fit.draws({"params": wide.ravel(), "tokens": long.ravel()})[0].reshape(wide.shape)
    flops = np.geomspace(
        FLOPS_PER * wide.min() * long.min(), FLOPS_PER * wide.max() * long.max(), 24
    )
    frontier = []
    for budget in flops:
        best, drawn = optimum(fit, budget)
        inside = drawn[np.isfinite(drawn)]
        tails = [(1 - fit.level) / 2, (1 + fit.level) / 2]
        low, high = np.quantile(inside, tails) if len(inside) else (best, best)
        frontier.append((budget, *np.exp([best, low, high])))
    line = pd.DataFrame(frontier, columns=["flops", "params", "low", "high"])
    line[amount] = line.flops / FLOPS_PER / line.params
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        # The scales come first: labels are fitted into the lines as these then stand.
        style.count_axis(axes, params.tolist())
        axes.set_xlim(params[0], params[-1])
        axes.set_yscale("log")
        axes.set_ylim(units[0], units[-1])
        levels = np.quantile(loss, np.linspace(0.02, 0.9, 12))
        lines = axes.contour(wide, long, loss, levels=levels, colors=SKY, linewidths=1)
        axes.clabel(lines, fmt=lambda v: f"{v:.3g}", fontsize="x-small", inline_spacing=2)
        dots = axes.scatter(
            columns["params"],
            columns["tokens"],
            c=table[fit.loss],
            cmap="viridis_r",
            s=16,
            zorder=3,
        )
        figure.colorbar(dots, label=f"{_measure(table, fit.loss, True)} of the runs", shrink=0.9)
        axes.plot(line.params, line[amount], color=RED, label="compute-optimal")
        for side, named in (("low", f"{fit.level:.0%} interval"), ("high", None)):
            length = line.flops / FLOPS_PER / line[side]
            axes.plot(line[side], length, color=RED, lw=0.9, ls=":", label=named)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: human(v)))
        axes.set_xlabel("params")
        axes.set_ylabel(amount)
        axes.set_title(title)
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(
        "law-contours", title,
        f"Contours of the fitted {measure}, the runs, and the sizes that are optimal for their "
        "compute.", figure, line,
    )  # fmt: skip


def valleys(found: Optimum, table: pd.DataFrame | None = None, loss: str = "loss") -> Drawn:
    """Loss against size at each budget, with the minima that were taken and those refused; `table`
    says what they are called.
    """
    table = pd.DataFrame() if table is None else table
    quantity = _data(table, found.quantity)
    kept = [v for v in found.valleys if len(v.size) >= 3]
    data = pd.concat(
        [pd.DataFrame({"flops": v.flops, "size": v.size, "loss": v.loss,
                       "refused": v.refused}) for v in kept]
    )  # fmt: skip
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        for v, colour in zip(kept, style.ramp(len(kept)), strict=True):
            axes.plot(v.size, v.loss, "o-", color=colour, ms=3, lw=1.2)
            axes.annotate(
                f" {human(v.flops)}", (v.size[-1], v.loss[-1]), fontsize="x-small", color=colour
            )
            if v.best_size is None or v.best_loss is None:
                at = int(np.argmin(v.loss))
                axes.plot(v.size[at], v.loss[at], "x", color=RED, ms=8, mew=2)
            else:
                axes.plot(v.best_size, v.best_loss, "*", color=ORANGE, ms=11, mec=INK, mew=0.6)
        axes.plot([], [], "*", color=ORANGE, ms=11, mec=INK, mew=0.6, ls="", label="minimum")
        if any(v.best_size is None for v in kept):
            axes.plot([], [], "x", color=RED, ms=8, mew=2, ls="", label="refused: at the edge")
        style.count_axis(axes, data["size"])
        style.loss_axis(axes, float(data["loss"].min()), float(data["loss"].max()))
        axes.set_xlabel(quantity)
        axes.set_ylabel(_measure(table, loss, True))
        axes.set_title("IsoFLOP valleys (FLOPs at the right end)")
        style.legend_below(figure, axes)
    interval = f"[{found.low:.3f}, {found.high:.3f}]"
    return Drawn(
        f"law-valleys-{found.quantity}", "IsoFLOP valleys",
        f"{quantity} at the minima grow as FLOPs^{found.exponent:.3f} {interval}; minima at "
        "the edge of the sizes tried are refused.", figure, data,
    )  # fmt: skip


def envelope_figure(table: pd.DataFrame, loss: str, run: str | None) -> Drawn:
    """Loss against compute, a line a run (or a size), and the best loss reached so far."""
    higher = _higher(table, loss)
    key = run or "params"
    rows = table[[key, "flops", loss]].dropna().sort_values("flops")
    curves = [part for _, part in rows.groupby(key) if len(part) > 1]
    best = rows[loss].cummax() if higher else rows[loss].cummin()
    named = "highest" if higher else "lowest"
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        ordered = sorted(curves, key=lambda part: float(part["flops"].median()))
        for part, colour in zip(ordered, style.ramp(len(ordered)), strict=True):
            axes.plot(part["flops"], part[loss], color=colour, lw=1, alpha=0.8)
        axes.plot(rows["flops"], best, color=RED, lw=2, label=f"{named} so far")
        style.count_axis(axes, rows["flops"])
        style.loss_axis(axes, float(rows[loss].min()), float(rows[loss].max()))
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel(_measure(table, loss, True))
        axes.set_title("Envelope of the curves")
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(
        "law-envelope", "Envelope of the curves",
        "Dark to light: curves that reach from little to much compute.", figure,
        rows.assign(**{named: best}),
    )  # fmt: skip


def residuals(fit: Fit, table: pd.DataFrame) -> Drawn:
    """Measured over predicted loss, against the prediction, with the noise of one run."""
    measured = table[fit.loss].to_numpy(float)
    predicted = fit.draws(table)[0]
    gap = measured / predicted - 1 if fit.space == "log" else measured - predicted
    data = pd.DataFrame({"predicted": predicted, "measured": measured, "residual": gap})
    scale = 100 if fit.space == "log" else 1
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        sd = scale * fit.noise.sd
        axes.axhspan(-sd, sd, color=SKY, alpha=0.25, lw=0, label="± one standard deviation")
        axes.axhline(0, color=INK, lw=1)
        axes.plot(predicted, scale * gap, "o", color=BLUE, ms=4, alpha=0.7, ls="")
        if not _higher(table, fit.loss):
            axes.invert_xaxis()
        axes.xaxis.set_major_locator(MaxNLocator(7))
        measure = _measure(table, fit.loss, True)
        axes.set_xlabel(f"predicted {measure}, better to the right")
        unit = "% of the prediction" if fit.space == "log" else measure
        axes.set_ylabel(f"measured - predicted, {unit}")
        axes.set_title("Residuals of the fit")
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(
        "law-residuals", "Residuals of the fit",
        "A trend from left to right would say that the law bends away from the runs.", figure, data,
    )  # fmt: skip


def cloud(fit: Fit) -> Drawn:
    """The draws of two parameters that the data tie together: an exponent and the floor."""
    law = LAWS[fit.law]
    exponents = [n for n in law.exponents if n in fit.free]
    others = [n for n in (law.floor, *law.exponents, *fit.free) if n in fit.free]
    first = exponents[0] if exponents else fit.free[0]
    second = next((n for n in others if n != first), None)
    if second is None or not len(fit.samples):
        raise UserError("a bootstrap cloud needs two fitted parameters and draws")
    data = pd.DataFrame(fit.samples, columns=list(fit.free))
    low, high = data[[first, second]].quantile(0.005), data[[first, second]].quantile(0.995)
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        axes.plot(
            data[first], data[second], "o", color=BLUE, ms=2.5, alpha=0.25, ls="", label="draws"
        )
        axes.plot(fit.params[first], fit.params[second], "*", color=ORANGE, ms=14, mec=INK,
                  ls="", label="fit")  # fmt: skip
        for name, draw in ((first, axes.axvspan), (second, axes.axhspan)):
            draw(*fit.intervals[name], color=SKY, alpha=0.18, lw=0)
        axes.set_xlim(low[first], high[first])
        axes.set_ylim(low[second], high[second])
        axes.set_xlabel(first)
        axes.set_ylabel(second)
        axes.set_title(f"Draws of {first} and {second}, {fit.level:.0%} intervals")
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(
        "law-cloud", f"Draws of {first} and {second}",
        f"{len(data)} draws: {fit.method}. A long thin cloud: only a combination is known.",
        figure, data,
    )  # fmt: skip


def choices(table: pd.DataFrame) -> Drawn:
    """How the answer moves with choices that the data do not make."""
    skipped = ("choice", "n", "status", "note")
    numeric = [c for c in table.columns if c not in skipped]
    shown = "optimal_params_exponent" if "optimal_params_exponent" in table else numeric[0]
    rows = table[table[shown].notna()].iloc[::-1]
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        axes.barh(rows["choice"], rows[shown], color=SKY, height=0.6)
        axes.axvline(float(table[shown].iloc[0]), color=RED, lw=1.4, label="as asked")
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(shown.replace("_", " "))
        axes.set_title("The answer under other choices")
        style.legend_below(figure, axes)
        style.finish(figure)
    return Drawn(
        "law-choices", "The answer under other choices",
        "Each bar is a refit with one choice changed.", figure, table,
    )  # fmt: skip


def backtests(done: Backtest) -> Drawn:
    """Error of every prediction of a backtest against the factor of extrapolation, and how many of
    the runs their intervals hold.
    """
    rows, summary = done.rows, done.table.iloc[:-1]
    held = rows.held.to_numpy(bool)
    with style.styled():
        figure, (axes, *_) = style.new_figure()
        for inside, colour, named in ((True, BLUE, "within its"), (False, RED, "outside its")):
            part = rows[held == inside]
            axes.plot(
                part.factor, 100 * (part.measured / part.predicted - 1), "o", color=colour, ms=3.5,
                alpha=0.6, ls="", label=f"{named} {done.level:.0%} interval: {len(part)}",
            )  # fmt: skip
        axes.axhline(0, color=INK, lw=1)
        axes.set_xscale("log")
        # Over less than a decade the labels are those of the minor ticks.
        short = bool(rows.factor.max() < 10 * rows.factor.min())
        for minor in (False, True):
            shown = FuncFormatter(lambda v, _: f"{v:g}x") if short or not minor else NullFormatter()
            (axes.xaxis.set_minor_formatter if minor else axes.xaxis.set_major_formatter)(shown)
        axes.set_xlabel(f"{done.by}, times the largest fitted")
        axes.set_ylabel("off the prediction (%)")
        axes.set_title("Backtest: predicted by smaller runs")
        style.legend_below(figure, axes)
    share = f"held_{100 * done.level:.0f}"
    told = "; ".join(
        f"{r['factor']}: {r[share]:.0%} of {r['runs']}" for r in summary.to_dict("records")
    )
    return Drawn(
        "law-backtest", "Backtest: predicted by smaller runs",
        f"A dot is a run and a fit below it. Runs within their intervals: {told}.", figure, rows,
    )  # fmt: skip


def draw(outcome: Outcome, *, run: str | None = None) -> dict[str, list[Drawn]]:
    """Every figure that the outcome of a fit allows, by group."""
    out: dict[str, list[Drawn]] = {}
    for name, fit in outcome.fits.items():
        table = outcome.tables.get(name)
        if table is None:
            continue
        table = table[np.isfinite(pd.to_numeric(table[fit.loss], errors="coerce"))]
        attempts: list[Callable[[], Drawn]] = [lambda f=fit, t=table: residuals(f, t)]  # type: ignore[misc]
        attempts.append(lambda f=fit: cloud(f))  # type: ignore[misc]
        if tuple(LAWS[fit.law].columns) == ("params", "tokens") and fit.loss == "loss":
            attempts.append(lambda f=fit, t=table: contours(f, t))  # type: ignore[misc]
        if name in outcome.approaches and {"params", "flops"} <= set(table.columns):
            attempts.append(lambda f=fit, t=table: valleys(isoflop(t, loss=f.loss), t, f.loss))  # type: ignore[misc]
            attempts.append(lambda f=fit, t=table: envelope_figure(t, f.loss, run))  # type: ignore[misc]
        if name in outcome.sensitivities:
            attempts.append(lambda s=outcome.sensitivities[name]: choices(s))  # type: ignore[misc]
        if name in outcome.backtests:
            attempts.append(lambda b=outcome.backtests[name]: backtests(b))  # type: ignore[misc]
        out[name] = []
        for attempt in attempts:
            try:
                out[name].append(attempt())
            except UserError:
                continue  # what the data do not allow was said by the fit itself
    return out


def write(
    outcome: Outcome,
    folder: epath.PathLike,
    *,
    run: str | None = None,
    paper: Paper | None = None,
) -> list[epath.Path]:
    """Writes the figures under `folder`, a sub-folder a group, and `index.html` with all of it, and
    those for a paper in `paper/` beside them; gives their paths.
    """
    folder, drawn = epath.Path(folder), draw(outcome, run=run)
    paths = []
    for name, figures in drawn.items():
        for one in figures:
            paths += save(one, folder / outcome.folders[name])
    if paper is not None:
        with looks.drawn_for(paper.look):
            for name, figures in draw(outcome, run=run).items():
                paths += paper.save(figures, folder / outcome.folders[name] / "paper")
    page = folder / "index.html"
    files.write_atomic(page, render_law(outcome, drawn).encode())
    return [*paths, page]
