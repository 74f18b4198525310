"""Runs an hour of a sweep of small runs: a process for each, one after another, packed.

    python -m benchmarks.sweep_throughput [--runs=64] [--steps=120] [--rounds=3] [--debug]
        [--ways=processes,sequential,...] [--sizes=1,4,...]

The runs are the quick start's two smallest sizes at several learning rates and seeds, with their
evaluations and checkpoints, cut to `--steps` updates. Every way is timed from the start of its
process or processes to the last status "done", in rounds that take turns; programs are in jax's
cache, as they are after the first run of a study. Of the ways that start a process for each run, or
train one after another, a sample of the runs is timed. Prints runs an hour and the CPU seconds of a
run, which do not depend on what else the machine does, with ratios within rounds (medians), then
the growth with the size of the group.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
WIDTHS = (16, 24)
SAMPLE = {"processes": 8, "sequential": 16, "workers": 16}  # runs that are timed
# Way -> devices into which the CPU is split, processes at a time, form of the packed program.
WAYS: dict[str, tuple[int, int, str | None]] = {
    "processes": (1, 1, None),
    "sequential": (1, 1, None),
    "workers": (1, 2, None),
    "packed loop": (1, 1, "loop"),
    "packed loop, 2 devices": (2, 1, "loop"),
    "packed loop, 2 workers": (1, 2, "loop"),
    "packed vmap": (1, 1, "vmap"),
}


def configs(runs: int, steps: int, debug: bool) -> list:
    """Resolved runs, half of them of each width; what differs within a width packs."""
    from configs import tiny
    from scaling.config import from_dict, override
    from scaling.studies import study

    base = from_dict(tiny.get_config("debug" if debug else ""))
    out = []
    for number in range(runs):
        width, k = WIDTHS[number % 2], number // 2
        rung = tiny.SWEPT.rung(width)
        fields = rung | {
            "optim.peak_lr": rung["optim.peak_lr"] * 2.0 ** (k % 4 - 2),
            "seed": k // 4,
            "train.tokens_per_param": None,
            "train.steps": steps,
        }
        out.append(study.resolve(override(base, fields)))
    return out


def child(path: str) -> None:
    """Train the jobs of a file, as a worker does."""
    told = json.loads(pathlib.Path(path).read_text())
    if told["cores"]:
        os.sched_setaffinity(0, set(told["cores"]))
    from scaling.devices import runtime

    runtime.configure(told["devices"])
    from scaling.config import from_dict
    from scaling.executors.jobs import Job, run_job
    from scaling.train.packed import train_packed

    for job in told["jobs"]:
        runs = [from_dict(config) for config in job]
        if told["form"]:
            ended = train_packed(runs, told["workdir"], form=told["form"], quiet=True)
            states = [getattr(e, "status", repr(e)) for e in ended]
        else:
            states = [r.status for r in run_job(Job(tuple(runs)), told["workdir"], quiet=True)]
        if set(states) != {"done"}:
            raise SystemExit(f"not done: {states}")


def timed(way: str, runs: list, size: int) -> tuple[float, float]:
    """Runs an hour, and CPU seconds a run."""
    from scaling.config import to_dict

    devices, processes, form = WAYS[way]
    runs = runs[: SAMPLE.get(way)]
    groups: list[list] = []
    for width in WIDTHS:
        alike = [to_dict(c) for c in runs if c.model.width == width]
        groups += [alike[i : i + size] for i in range(0, len(alike), size)]
    # What one process is told; cores: one each where several run at a time.
    if way == "processes":
        shares = [[group] for group in groups]
    else:
        shares = [groups[k::processes] for k in range(processes)]
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        begin, before = time.perf_counter(), _cpu_seconds()
        running: list[subprocess.Popen] = []
        for number, jobs in enumerate(shares):
            path = pathlib.Path(folder) / f"{number}.json"
            own = [cores[number % len(cores)]] if processes > 1 else None
            told = {"devices": devices, "form": form, "workdir": folder, "jobs": jobs, "cores": own}
            path.write_text(json.dumps(told))
            running.append(subprocess.Popen([sys.executable, __file__, f"--child={path}"]))
            if len(running) == processes or way == "processes":
                _wait(running)
        _wait(running)
        rate = len(runs) / (time.perf_counter() - begin) * 3600
        return rate, (_cpu_seconds() - before) / len(runs)


def _cpu_seconds() -> float:
    """Of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait(running: list[subprocess.Popen]) -> None:
    while running:
        if running.pop().wait():
            raise SystemExit("a process failed")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by ;")
    parser.add_argument("--sizes", default="1,2,4,8,16,32")
    parser.add_argument("--debug", action="store_true", help="seconds")
    parser.add_argument("--child", help="a file of jobs (used by itself)")
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if given.debug:
        given.runs, given.steps, given.rounds, given.sizes = 4, 4, 1, "2"
        given.ways = "sequential;packed loop"
    ways = given.ways.split(";")
    runs = configs(given.runs, given.steps, given.debug)
    brief = configs(given.runs, 2, given.debug)
    whole = given.runs // 2  # all runs of a width in one group

    def size_of(way: str) -> int:
        packed = WAYS[way][2] is not None
        return whole // WAYS[way][1] if packed else 1

    for way in ways:
        timed(way, brief[: 4 * size_of(way)] if WAYS[way][2] is None else brief, size_of(way))
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way in ways:
            found[way].append(timed(way, runs, size_of(way)))
    print(f"{given.runs} runs of {given.steps} steps, widths {WIDTHS}, medians:")
    print(f"  {'':24s} {'runs/h':>8s} {'CPU s/run':>10s}   runs/h, and runs a CPU second, against")
    for way in ways:
        rate, cpu = map(statistics.median, zip(*found[way], strict=True))
        line = f"  {way:24s} {rate:8.0f} {cpu:10.2f}"
        for base in ("processes", "sequential", "workers"):
            if base in found and base != way:
                pairs = list(zip(found[way], found[base], strict=True))
                faster = statistics.median(a[0] / b[0] for a, b in pairs)
                leaner = statistics.median(b[1] / a[1] for a, b in pairs)
                line += f"   {faster:5.2f} {leaner:5.2f} x {base}"
        print(line, flush=True)
    sizes = list(map(int, filter(None, given.sizes.split(","))))
    if not sizes:
        return
    print("packed loop by the size of the group: runs/h, CPU s/run, medians")
    best: dict[int, float] = {}
    for size in sizes:
        timed("packed loop", brief, size)
        times = [timed("packed loop", runs, size) for _ in range(given.rounds)]
        rate, best[size] = map(statistics.median, zip(*times, strict=True))
        print(f"  {size:4d} {rate:8.0f} {best[size]:10.2f}", flush=True)
    print(f"best by CPU seconds: {min(best, key=lambda size: best[size])}")


if __name__ == "__main__":
    main()
