"""What `launch.py fit` and `plan` take from the shell to the answer, each in a process of its own.

    python -m benchmarks.start_up [--rounds=5] [--against=OTHER_CHECKOUT]
    python -m benchmarks.start_up --growth [--rounds=3]

Prints medians over the rounds: seconds by the clock and of CPU (all threads), for mistakes in
flags, columns and files, and for fits of a table of 20 rows: with the compiled programs of an
earlier process at hand, and with none. With another checkout, its times too and their ratio to
ours, each pair run one after the other. With `--growth`: a fit of two columns with predictions and
backtests, nothing compiled, of tables of ever more rows and ever more cuts.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
FIT = ["fit", "--table=runs.csv"]
CASES = {
    "a flag: --level=90": [*FIT, "--level=90"],
    "a file: no such table": ["fit", "--table=absent.csv"],
    "a column: --columns=loss=los": [*FIT, "--columns=loss=los"],
    "a cell: no number": ["fit", "--table=broken.csv"],
    "fit without intervals": [*FIT, "--bootstrap=0"],
    "fit, 1,000 resamples": FIT,
    "plan of a fit": ["plan", "--fit=chinchilla", "--flops=1e18"],
}
GRIDS = ((5, 12), (5, 24), (5, 48), (5, 96), (5, 192), (9, 24), (13, 24))  # budgets, sizes of each
EMPTY = ("fit without intervals", "fit, 1,000 resamples")  # also without compiled programs


def run(checkout: pathlib.Path, folder: str, kept: str, arguments: list[str]) -> tuple[float, ...]:
    """Seconds by the clock and of CPU of one command, run in `folder`; `kept` is what it may keep
    between runs.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"PYTHONPATH": str(checkout), "SCALING_DATA_DIR": kept}
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(checkout / "launch.py"), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, after = time.perf_counter() - begin, os.times()
    if "Traceback" in done.stderr:
        sys.exit(done.stderr)
    spent = [getattr(after, n) - getattr(before, n) for n in ("children_user", "children_system")]
    return wall, sum(spent)


def tables(folder: str) -> None:
    """runs.csv, a spoilt copy, and a fit to plan with."""
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(1e5, 1e8, 5), 4)
    tokens = params * np.tile([5, 10, 20, 80], 5)
    loss = (1.2 + 30 * params**-0.25 + 80 * tokens**-0.3) * np.exp(0.003 * rng.normal(size=20))
    rows = [f"{p:.0f},{t:.0f},{v:.5f}" for p, t, v in zip(params, tokens, loss, strict=True)]
    text = "\n".join(["params,tokens,loss", *rows]) + "\n"
    pathlib.Path(folder, "runs.csv").write_text(text)
    pathlib.Path(folder, "broken.csv").write_text(text.replace(rows[3], f"{params[3]},1,diverged"))


def grid(path: pathlib.Path, budgets: int, sizes: int) -> None:
    """A table of so many budgets with so many sizes each."""
    rng = np.random.default_rng(0)
    flops = np.repeat(1e18 * 4.0 ** np.arange(budgets), sizes)
    params = 1e8 * (flops / 1e18) ** 0.5 * np.tile(np.geomspace(1 / 8, 8, sizes), budgets)
    tokens = flops / 6 / params
    loss = 1.8 + 480 * params**-0.35 + 2000 * tokens**-0.37
    loss = loss * np.exp(0.005 * rng.normal(size=len(flops)))
    rows = (f"{p},{t},{c},{v}" for p, t, c, v in zip(params, tokens, flops, loss, strict=True))
    path.write_text("\n".join(["params,tokens,flops,loss", *rows]) + "\n")


def growth(rounds: int) -> None:
    """Seconds of fits with backtests, by rows and by cuts."""
    print(f"{'rows':>6s} {'cuts':>5s}  seconds by the clock, of CPU")
    with tempfile.TemporaryDirectory() as folder:
        for budgets, sizes in GRIDS:
            grid(pathlib.Path(folder, "runs.csv"), budgets, sizes)
            command = [*FIT, "--law=chinchilla", "--backtest"]
            taken = [run(ROOT, folder, f"{folder}/{budgets}-{sizes}-{k}", command)
                     for k in range(rounds)]  # fmt: skip
            wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
            print(f"{budgets * sizes:6d} {budgets - 1:5d}  {wall:5.1f} {cpu:5.1f}", flush=True)


def main() -> None:
    """The table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=pathlib.Path, help="another checkout, compared by ratio")
    parser.add_argument("--growth", action="store_true", help="by rows and by cuts")
    options = parser.parse_args()
    if options.growth:
        growth(options.rounds)
        return
    checkouts = [ROOT] + ([options.against.absolute()] if options.against else [])
    with tempfile.TemporaryDirectory() as folder:
        tables(folder)
        for i, checkout in enumerate(checkouts):  # fills the caches, and compiles the bytecode
            for arguments in ([*FIT, "--law=chinchilla", "--out=chinchilla"], *CASES.values()):
                run(checkout, folder, f"{folder}/cache{i}", arguments)
        cases = [(name, arguments, False) for name, arguments in CASES.items()]
        cases += [(f"{name}, nothing compiled", CASES[name], True) for name in EMPTY]
        print(f"{'seconds by the clock, of CPU':42s}  ours           theirs         ratio")
        for name, arguments, empty in cases:
            taken: list[list[tuple[float, ...]]] = [[] for _ in checkouts]
            for k in range(options.rounds):
                for i, checkout in enumerate(checkouts):
                    cache = f"{folder}/empty{i}-{k}-{name}" if empty else f"{folder}/cache{i}"
                    taken[i].append(run(checkout, folder, cache, arguments))
            medians = [[statistics.median(column) for column in zip(*t, strict=True)]
                       for t in taken]  # fmt: skip
            line = f"{name:42s}" + "".join(f"  {wall:5.2f}  {cpu:5.2f} " for wall, cpu in medians)
            if options.against:
                pairs = [[theirs[c] / ours[c] for ours, theirs in zip(*taken, strict=True)]
                         for c in (0, 1)]  # fmt: skip
                line += "  {:5.2f}  {:5.2f}".format(*(statistics.median(p) for p in pairs))
            print(line, flush=True)


if __name__ == "__main__":
    main()
