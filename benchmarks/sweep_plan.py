"""What a sweep of many cells costs before and after training: planning, printing, status, table.

    python -m benchmarks.sweep_plan [--cells=250,500,1000,2000] [--debug] [--profile=STAGE]

Makes a study of so many runs, and the directories of all of them as finished runs of a hundred log
lines leave them, then times each stage: the runs of the study, the dry run's table, the reasons of
`--why`, `status`, and the table of results. Prints seconds of this process (what else the machine
does is not in them), milliseconds a cell, and the exponent of growth: the slope of a line through
the logarithms, 1 where the time is proportional.
"""

import argparse
import cProfile
import math
import pathlib
import pstats
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from scaling.costs import sizes

ROOT = pathlib.Path(__file__).parent.parent
LINES = 100


def make_study(cells: int, text: pathlib.Path) -> Any:
    """A study of `cells` runs: five widths, learning rates and seeds."""
    from configs import lm
    from scaling.config.sweep import Study, grid

    text.mkdir(parents=True, exist_ok=True)
    for i in range(20):
        (text / f"{i}.txt").write_text(" ".join(f"word{(i * 7 + j * j) % 61}" for j in range(99)))
    base = lm.get_config("debug")
    base.data.source = f"text:{text}/*.txt"
    base.data.seq_len = 16
    rates = [1e-3 * 1.1**i for i in range(10)]
    widths = (16, 32, 48, 64, 96)
    seeds = range(math.ceil(cells / 50))
    runs = grid({"seed": seeds, "optim.peak_lr": rates, "model.width": widths})[:cells]
    return Study(name="plan", base=base, runs=runs)


def finish(configs: Sequence[Any], workdir: pathlib.Path) -> None:
    """The directories of runs that are done."""
    import dataclasses

    from scaling.records import RunDirectory

    made_by = {"commit": "0" * 40, "dirty": False, "device_kind": "cpu", "device_count": 1}
    for config in configs:
        run = RunDirectory.open(config, workdir)
        run.start(config, made_by, dataclasses.asdict(sizes.cost(config)))
        steps = config.train.steps
        loss = {"loss": 3.0, "accuracy": 0.1, "grad_norm": 1.0, "update_norm": 0.1, "lr": 1e-3}
        clock = {"time/step_s": 0.1, "time/tokens_per_s": 1e4, "time/mfu": 0.1}
        run.append(
            *(
                {"step": steps * (i + 1) // LINES, "split": "train", **loss, **clock}
                for i in range(LINES)
            ),
            {"step": steps, "split": "val", "loss": 3.0, "loss_se": 0.1, "bits_per_byte": 4.0},
        )
        run.write_status("done", step=steps, steps=steps, loss=3.0, rate=10.0, eta=0.0)


def stages(cells: int, workdir: pathlib.Path) -> dict[str, Callable[[], Any]]:
    """Name -> what is timed."""
    import jax

    from scaling import records
    from scaling.executors import forecast, preview, why
    from scaling.executors.plan import plan as jobs_of
    from scaling.records import status, tables
    from scaling.studies import study

    plan = make_study(cells, workdir / "text")
    configs = study.runs(plan)
    finish(configs, workdir)
    return {
        "study.runs": lambda: study.runs(plan),
        "preview.table": lambda: preview.table(configs, workdir, devices=1),
        "jobs": lambda: jobs_of(configs, workdir, pack="auto", devices=jax.devices()),
        "forecast": lambda: forecast.forecast(configs, workdir, jax.devices()[0]).text(),
        "why": lambda: why.text(why.reasons(configs, workdir)),
        "status": lambda: status.status_lines(workdir, configs),
        "status without a study": lambda: status.status_lines(workdir),
        "table": lambda: tables.table([records.RunDirectory.open(c, workdir) for c in configs]),
    }


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log seconds over log sizes, by least squares."""
    x, y = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread


def measure(sizes: Sequence[int], profile: str | None) -> dict[str, list[float]]:
    """Stage -> seconds at each size."""
    found: dict[str, list[float]] = {}
    for cells in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for name, work in stages(cells, pathlib.Path(folder)).items():
                begin = time.process_time()
                if name == profile:
                    with cProfile.Profile() as profiler:
                        work()
                    pstats.Stats(profiler).sort_stats("cumulative").print_stats(35)
                else:
                    work()
                found.setdefault(name, []).append(time.process_time() - begin)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", default="250,500,1000,2000")
    parser.add_argument("--debug", action="store_true", help="small sizes")
    parser.add_argument("--profile", help="print a profile of this stage")
    given = parser.parse_args()
    sizes = [10, 20] if given.debug else [int(n) for n in given.cells.split(",")]
    sys.path.insert(0, str(ROOT))
    found = measure(sizes, given.profile)
    print("| stage | " + " | ".join(f"{n} cells, s" for n in sizes) + " | ms a cell | exponent |")
    print("|---|" + "---:|" * (len(sizes) + 2))
    for name, seconds in found.items():
        times = " | ".join(f"{s:.2f}" for s in seconds)
        each = f"{1000 * seconds[-1] / sizes[-1]:.2f}"
        growth = f"{exponent(sizes, seconds):.2f}" if len(sizes) > 1 else "-"
        print(f"| {name} | {times} | {each} | {growth} |")


if __name__ == "__main__":
    main()
