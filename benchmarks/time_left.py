"""How far off the time left is that a sweep prints, from its first line to its end.

    python -m benchmarks.time_left --experiment=experiments/quickstart.py --workdir=/tmp/time_left
    python -m benchmarks.time_left --experiment=... --workdir=/tmp/time_left --replay

Trains the study as `launch.py sweep` does by default, as a newcomer would: nothing is on record and
nothing compiled. Prints a row for each line of the sweep: seconds since its start, the time left
that it said, the truth, their ratio; then the worst ratio from the second minute on. --replay
trains nothing: it plays the finished sweep of that workdir again, with the seconds that its runs
took to start, compile, step and evaluate, on a machine that is as fast all the time.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scaling.costs import sizes  # noqa: E402
from scaling.executors import remaining  # noqa: E402
from scaling.executors.remaining import Sweep, Work  # noqa: E402
from scaling.records.timing import Cost  # noqa: E402

Look = tuple[float, Sweep]  # seconds since the start, what was known
FROM, LEAST = 60.0, 15.0  # seconds from which on, and left down to which, a ratio counts


def plan_of(spec: str, workdir: pathlib.Path) -> tuple[list[Any], Any, int]:
    """The runs, jobs and slots of a study, as `sweep` makes them."""
    import jax

    from scaling.executors import machine
    from scaling.executors.plan import plan
    from scaling.studies import study

    configs = study.runs(study.load_study(spec))
    processes = machine.processes(None)
    devices = jax.devices()[: machine.worker_devices(processes) if processes > 1 else None]
    pack = "auto" if devices[0].platform == "cpu" else "off"
    jobs = plan(configs, workdir, pack=pack, devices=devices, processes=processes).jobs
    return configs, jobs, min(processes, len(jobs))


def trained(spec: str, workdir: pathlib.Path) -> tuple[list[Look], float]:
    """What is known at each line of the sweep, and the seconds that it took."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(workdir / "jax_cache")
    from scaling.devices import runtime
    from scaling.executors.local import run_local
    from scaling.executors.progress import SweepProgress

    runtime.configure()
    configs, jobs, slots = plan_of(spec, workdir)
    began, looks = time.monotonic(), list[Look]()

    def look(sweep: Sweep) -> None:
        looks.append((time.monotonic() - began, sweep))

    with SweepProgress(configs, jobs, workdir, slots, on_look=look) as progress:
        run_local(jobs, workdir, on_result=progress.ended, on_start=progress.began)
    return looks, time.monotonic() - began


def played(
    works: Sequence[Work], costs: Sequence[Cost], slots: int, every: float = 20.0
) -> tuple[list[Look], float]:
    """What would be known every so many seconds, and the seconds in all, if each work took its
    cost, from its start to its last evaluation.

    Args:
      works: none begun, in the order in which they are started; without trunks.
      costs: one for each.
    """

    def seconds(i: int) -> float:
        cost = costs[i]
        steps = works[i].steps * cost.step_s
        return cost.other_s + cost.compile_s + steps + works[i].evaluations * (cost.eval_s or 0.0)

    free, begins = [0.0] * slots, []
    for i in range(len(works)):
        at = min(free)
        free[free.index(at)] = at + seconds(i)
        begins.append(at)
    looks = []
    for tick in range(1, int(max(free) // every) + 1):
        now, left, seen = tick * every, list[Work](), list[Cost]()
        for i, (work, cost, begin) in enumerate(zip(works, costs, begins, strict=True)):
            if now >= begin + seconds(i):
                seen += [cost] * work.members
            elif now < begin:
                left.append(work)
            else:
                training = now - begin - cost.other_s - cost.compile_s
                steps = max(0, min(int(training / cost.step_s), int(work.steps)))
                partial = replace(cost, steps=steps, eval_s=None) if steps else None
                seen += [partial] if partial else []
                ending = training - work.steps * cost.step_s if steps == work.steps else 0.0
                to_do = replace(work, steps=work.steps - steps, cost=partial)
                left.append(replace(to_do, running=now - begin, ending=ending))
        looks.append((now, Sweep(slots, left, seen)))
    return looks, max(free)


def replayed(spec: str, workdir: pathlib.Path) -> tuple[list[Look], float]:
    """As `played`, of a finished sweep."""
    from scaling.executors.progress import SweepProgress
    from scaling.records import RunDirectory, timing

    configs, jobs, slots = plan_of(spec, workdir / "nothing has begun here")
    jobs = sorted(jobs, key=lambda job: -sum(sizes.cost(c).flops for c in job.configs))
    with SweepProgress(configs, jobs, workdir / "nor here", slots) as progress:
        works = list(progress.look().works)
    costs = [timing.of_run(RunDirectory.open(job.configs[0], workdir)) for job in jobs]
    if None in costs:
        sys.exit(f"{workdir} has no finished sweep of {spec}; leave --replay out")
    return played(works, [cost for cost in costs if cost is not None], slots)


def rows(looks: Sequence[Look], end: float) -> list[Mapping[str, Any]]:
    """Seconds, said, true, ratio of each look."""
    out: list[Mapping[str, Any]] = []
    for at, sweep in looks:
        said, true = sweep.seconds(), end - at
        ratio = said / true if said is not None and true > 0 else None
        out.append({"at": at, "said": said, "true": true, "ratio": ratio})
    return out


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """For people; the last line is the worst ratio that counts."""

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [f"{'seconds':>8} {'said left':>10} {'truth':>8} {'ratio':>6}"]
    for row in found:
        lines.append(
            f"{row['at']:8.0f} {number(row['said'], 0):>10} {row['true']:8.0f} "
            f"{number(row['ratio'], 2):>6}"
        )
    counts = [r["ratio"] for r in found if r["at"] >= FROM and r["true"] >= LEAST and r["ratio"]]
    if counts:
        lines.append(
            f"from {FROM:.0f} s on, down to {LEAST:.0f} s left: said / truth "
            f"{min(counts):.2f} to {max(counts):.2f} in {len(counts)} lines"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, measure or replay, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--experiment", default="experiments/quickstart.py")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--replay", action="store_true")
    given = parser.parse_args()
    if given.replay:
        looks, end = replayed(given.experiment, given.workdir)
    else:
        looks, end = trained(given.experiment, given.workdir)
        kept = [{"at": at, "end": end, "sweep": remaining.as_dict(sweep)} for at, sweep in looks]
        lines = "".join(f"{json.dumps(look)}\n" for look in kept)
        (given.workdir / "time_left.jsonl").write_text(lines)
    todo = collections.Counter(work.program for work in looks[0][1].works)
    print(f"{given.experiment}: {sum(todo.values())} jobs of {len(todo)} programs, {end:.0f} s")
    print(table(rows(looks, end)))


if __name__ == "__main__":
    main()
