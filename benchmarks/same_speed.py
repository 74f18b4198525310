"""How fast another version of the code is: `same_numbers.py --speed`.

Time a step, from the metrics of a run, and CPU seconds of planning a sweep of many cells (`sweep
--dry_run`), by the command lines of both in alternate rounds.
"""

import json
import os
import statistics

from benchmarks.checkouts import TEXT, Place, runs_of

# A study by what every version has: a study of experiments/, with other runs.
STUDY = """
import dataclasses, itertools
from configs import tiny
from experiments import width

def get_study(arg=""):
    base = tiny.get_config("debug")
    base.data.source = "text:{texts}/*.txt"
    with base.unlocked():
        del base.evals.sets["docs"]
    axes = {{
        "seed": range({cells} // 50),
        "optim.peak_lr": [1e-3 * 1.1**i for i in range(10)],
        "model.width": (16, 32, 48, 64, 96),
    }}
    runs = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    runs = [run | {{"train.tokens": 512.0, "train.tokens_per_param": None}} for run in runs]
    return dataclasses.replace(width.get_study(), name="plan", base=base, runs=runs)
"""
SPEED: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "step of configs/tiny.py": (("configs/tiny.py", TEXT), {"steps": 400, "log_every": 8}),
    "step of configs/lm.py": (("configs/lm.py", TEXT), {"steps": 16, "log_every": 1}),
}


def step_seconds(place: Place, name: str, workdir: str) -> dict[str, float]:
    """Over the lines of a run's metrics, the first left out, which may hold compilation. The
    fastest says most where other processes take the cores in between.
    """
    config, train = SPEED[name]
    config += ("evals.batches=1", "evals.batch_size=4")
    place.run(*place.train_flags(config, workdir, **train))
    (run,) = runs_of(place.folder / workdir)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = [line["time/step_s"] for line in lines if line["split"] == "train"][1:]
    return {f"{name}, median": statistics.median(times), f"{name}, fastest": min(times)}


def planning_seconds(place: Place) -> float:
    """CPU seconds of a dry run."""
    begin = os.times()
    place.run("sweep", f"--experiment={place.shared}/plan.py", "--dry_run", "--workdir=empty")
    end = os.times()
    return sum(getattr(end, n) - getattr(begin, n) for n in ("children_user", "children_system"))


def measured(place: Place, name: str, i: int) -> dict[str, float]:
    """What is measured -> seconds, of the round `i`."""
    if name in SPEED:
        return step_seconds(place, name, f"speed-{list(SPEED).index(name)}-{i}")
    return {f"{name}, CPU": planning_seconds(place)}


def speed(before: Place, after: Place, rounds: int, debug: bool) -> None:
    """Prints medians of the rounds, and of their ratios."""
    rounds, cells = (1, 100) if debug else (rounds, 2000)
    text = STUDY.format(texts=before.shared / "texts", cells=cells)
    (before.shared / "plan.py").write_text(text)
    for name in [*list(SPEED)[: 1 if debug else None], f"planning of {cells:,} cells"]:
        found = []
        for i in range(-1, rounds):  # the first fills the caches, and compiles the bytecode
            places = (before, after) if i % 2 else (after, before)
            times = {place: measured(place, name, i) for place in places}
            found += [(times[before], times[after])] * (i >= 0)
        for what in found[0][0]:
            pairs = [(a[what], b[what]) for a, b in found]
            one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratios = sorted(b / a for a, b in pairs)
            spread = f"[{ratios[0]:.2f}, {ratios[-1]:.2f}] in {rounds} rounds"
            ratio = f"after/before {statistics.median(ratios):.2f} {spread}"
            print(f"{what:34s} {1e3 * one:9.2f} ms | {1e3 * other:9.2f} ms  {ratio}", flush=True)
