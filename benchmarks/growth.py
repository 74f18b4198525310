"""How a step grows with width, depth, length, batch and devices: predicted, compiled, measured.

    python -m benchmarks.growth [--axes=width,depth,...] [--rounds=5] [--debug] [--figure=PATH]

Memory: `scaling/check/memory.py` against the compiler's plan. Time: the roofline's matmuls at the
peak of the machine against the clock; memory traffic is not in it, since the CPU's bandwidth is in
no table. Every point is a process of its own, on CPU devices. Prints a table an axis, and the
exponent of growth, the slope of a line through the logarithms. --figure writes
docs/figures/growth.png.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from scaling.costs import counts

ROOT = pathlib.Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "figures" / "growth.png"
FIELDS = ("width", "depth", "length", "batch", "devices")
BASE = {"width": 128, "depth": 4, "length": 256, "batch": 8, "devices": 1}
AXES: dict[str, Sequence[int]] = {
    "width": (64, 128, 256),
    "depth": (2, 4, 8),
    "length": (128, 256, 512),
    "batch": (4, 8, 16),
    "devices": (1, 2, 4),
}
DEBUG_BASE = {"width": 32, "depth": 1, "length": 32, "batch": 4, "devices": 1}
DEBUG_AXES: dict[str, Sequence[int]] = {"width": (32, 64), "devices": (1, 2)}


def measure(point: dict[str, int], rounds: int) -> dict[str, Any]:
    """Of one shape, in this process: bytes of a device and seconds of a step, both ways.

    Rounds of steps and of the peak take turns, so that what else the machine does falls on both: of
    time only their ratio is kept.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", point["devices"])
    from benchmarks.ours import Step, config_of
    from scaling.check import memory
    from scaling.devices import peaks
    from scaling.train.compilation import planned_bytes

    config = config_of(*(point[name] for name in FIELDS[:-1]), model={"scan_layers": True})
    step = Step(config)
    for _ in range(2):
        jax.block_until_ready(step())
    flops = counts.train_ledger(config).matmul / point["devices"]
    ratios, reached = [], []
    for _ in range(rounds):
        peaks.measured_cpu_peak.cache_clear()
        peak = peaks.peak_flops(jax.devices()[0], config.model.dtype)
        assert peak is not None
        begin, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - begin < 0.5:
            jax.block_until_ready(step())
            steps += 1
        ratios.append((time.perf_counter() - begin) / steps * peak / flops)
        reached.append(peak * point["devices"])
    return point | {
        "predicted_bytes": memory.estimate_bytes(config, point["devices"]).total,
        "compiled_bytes": planned_bytes(step.compiled),
        "flops": flops * point["devices"],
        "peak": statistics.median(reached),
        "time_ratio": statistics.median(ratios),
        "time_ratios": sorted(ratios),
    }


def points(base: dict[str, int], axes: dict[str, Sequence[int]]) -> dict[str, list[dict[str, int]]]:
    """Axis -> the shapes along it."""
    return {axis: [base | {axis: value} for value in values] for axis, values in axes.items()}


def run(axes: dict[str, list[dict[str, int]]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Axis -> a row a shape, each measured once, in a process of its own."""
    known: dict[str, dict[str, Any]] = {}
    for shapes in axes.values():
        for point in shapes:
            text = json.dumps(point)
            if text not in known:
                command = [sys.executable, __file__, f"--point={text}", f"--rounds={rounds}"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{text}: {done.stderr}")
                known[text] = json.loads(done.stdout.splitlines()[-1])
                print(f"  {text}", file=sys.stderr, flush=True)
    # One peak for all: how fast the machine happened to be is in no shape's time.
    peak = statistics.median(row["peak"] for row in known.values())
    for row in known.values():
        row["predicted_s"] = row["flops"] / peak
        row["measured_s"] = row["predicted_s"] * row["time_ratio"]
    return {axis: [known[json.dumps(point)] for point in shapes] for axis, shapes in axes.items()}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = ([math.log(v) for v in column] for column in (sizes, values))
    return statistics.linear_regression(x, y).slope


COLUMNS = ("predicted_bytes", "compiled_bytes", "predicted_s", "measured_s")


def table(axis: str, rows: Sequence[dict[str, Any]]) -> str:
    """Text of one axis."""
    lines = [
        f"{axis:>8}  {'MiB a device: predicted':>24} {'compiled':>9} {'ratio':>6}"
        f"  {'ms a step: at the peak':>23} {'measured':>9} {'ratio':>6}"
    ]
    for row in rows:
        predicted, planned = (row[name] / 2**20 for name in COLUMNS[:2])
        least, measured = (1e3 * row[name] for name in COLUMNS[2:])
        lines.append(
            f"{row[axis]:>8}  {predicted:>24.1f} {planned:>9.1f} {predicted / planned:>6.2f}"
            f"  {least:>23.1f} {measured:>9.1f} {row['time_ratio']:>6.2f}"
        )
    slopes = [exponent([r[axis] for r in rows], [r[name] for r in rows]) for name in COLUMNS]
    lines.append(
        f"exponent  {slopes[0]:>24.2f} {slopes[1]:>9.2f} {'':6}  {slopes[2]:>23.2f} "
        f"{slopes[3]:>9.2f}"
    )
    return "\n".join(lines)


def draw(results: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Memory above, time below, an axis a column: predictions as lines, the rest as points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    from scaling.report import style

    kinds = (
        ("MiB a device", COLUMNS[:2], 2**-20, ("memory model", "compiled")),
        ("ms a step", COLUMNS[2:], 1e3, ("matmuls at the peak", "measured")),
    )
    with style.styled():
        figure = Figure(figsize=(2.3 * len(results) + 1, 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(2, len(results), sharey="row", sharex="col", squeeze=False)
        for column, (axis, rows) in enumerate(results.items()):
            sizes = [row[axis] for row in rows]
            for line, (label, names, scale, words) in enumerate(kinds):
                axes = grid[line][column]
                values = [[row[name] * scale for row in rows] for name in names]
                colours = (style.BLUE, style.ORANGE)
                axes.loglog(sizes, values[0], "-", color=colours[0], label=words[0])
                axes.loglog(sizes, values[1], "o", color=colours[1], label=words[1])
                if line == 1:  # the range of the rounds
                    ends = [
                        [r["predicted_s"] * scale * r["time_ratios"][i] for r in rows]
                        for i in (0, -1)
                    ]
                    axes.vlines(sizes, *ends, color=colours[1])
                axes.xaxis.set_major_locator(FixedLocator(sizes))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.yaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                if column == 0:
                    axes.set_ylabel(label)
                    axes.legend()
            grid[1][column].set_xlabel(axis)
        path.parent.mkdir(parents=True, exist_ok=True)
        style.finish(figure)
        path.write_bytes(style.encode(figure, "png"))


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--axes", help="some of the axes, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--debug", action="store_true", help="two axes of tiny shapes")
    parser.add_argument("--figure", type=pathlib.Path, nargs="?", const=FIGURE)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if flags.point:
        print(json.dumps(measure(flags.point, flags.rounds)))
        return
    base, axes = (DEBUG_BASE, DEBUG_AXES) if flags.debug else (BASE, AXES)
    if flags.axes:
        axes = {axis: axes[axis] for axis in flags.axes.split(",")}
    results = run(points(base, axes), 1 if flags.debug else flags.rounds)
    print("\n\n".join(table(axis, rows) for axis, rows in results.items()))
    if flags.figure:
        draw(results, flags.figure)


if __name__ == "__main__":
    main()
