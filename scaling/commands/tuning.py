"""`launch.py sweep --tune`: what is trained is not what a study lists, but what a search draws."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from scaling import files
from scaling.commands.command import FLAGS, preparing, stop_on_signals
from scaling.commands.tables import given_study
from scaling.errors import FAILED, RESUME_ME, UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.config.sweep import Study
    from scaling.executors.result import Result
    from scaling.tuning.search import Asked, Found


def tune(where: Mapping[str, Any], planning: Callable[[], dict[str, Any]]) -> int:
    """The search of --experiment; `where` is what the executor is told, `planning` how runs become
    jobs.
    """
    from scaling.devices import runtime
    from scaling.executors import EXECUTORS
    from scaling.tuning import search as search_lib

    if EXECUTORS[FLAGS.executor].commands:
        raise UserError(
            f"--tune with --executor={FLAGS.executor}: a pod would be rented anew for every rung; "
            "take --executor=local or slurm"
        )
    if not files.is_local(FLAGS.workdir):
        raise UserError(f"--tune: its journal is a local file; --workdir={FLAGS.workdir} is none")
    plan = given_study()
    search_lib.search_of(plan)
    runtime.configure(FLAGS.cpu_devices)
    from scaling.studies import study

    resolve = study.looking_up_once()
    if FLAGS.dry_run:
        print(_foreseen(plan, resolve))
        return 0
    stop = stop_on_signals()

    def train(asked: "Sequence[Asked]") -> "list[Result]":
        return _train(asked, stop, where, planning())

    def say(text: str) -> None:
        print(text, flush=True)

    found = search_lib.search(plan, FLAGS.workdir, resolve, train, say)
    if found is None:
        return RESUME_ME
    hand: list[RunConfig] = []
    if found.confirmed:
        hand = study.runs(plan)
        steps = [config.train.steps for config in hand]
        say(f"the study's own {len(hand)} runs")
        results = train(list(zip(hand, steps, strict=True)))  # type: ignore[arg-type]
        if any(result.status in ("stopped", "pending") for result in results):
            return RESUME_ME
    if FLAGS.report:
        with preparing("the report"):
            _report(plan, found, hand)
    return FAILED if found.best is None else 0


def _train(
    asked: "Sequence[Asked]",
    stop: threading.Event,
    where: Mapping[str, Any],
    planning: Mapping[str, Any],
) -> "list[Result]":
    """Through the executor of the flags."""
    from scaling.config import fingerprint
    from scaling.executors import EXECUTORS, admission
    from scaling.tuning.search import jobs_of

    configs = [config for config, _ in asked]
    results = []
    if FLAGS.check_memory and FLAGS.executor == "local":
        results = admission.refused(configs, FLAGS.workdir, planning["devices"])
    away = {fingerprint(result.config) for result in results}
    admitted = [one for one in asked if fingerprint(one[0]) not in away]
    how = {name: value for name, value in planning.items() if name != "branch"}
    jobs, there = jobs_of(admitted, FLAGS.workdir, **how)
    results += there
    if jobs:
        results += EXECUTORS[FLAGS.executor].run(jobs, FLAGS.workdir, stop=stop, **where)
    # What was healed is another config of the same run.
    of_run = {fingerprint(result.config): result for result in results}
    return [of_run[fingerprint(config)] for config in configs]


def _foreseen(plan: "Study", resolve: Any) -> str:
    """What the search will do, for a dry run."""
    from scaling.tuning.search import search_of

    search = search_of(plan)
    shares = (*search.rungs, 1.0)
    # Each rung sends one of so many on; what is trained is the way from rung to rung.
    least = sum(
        (share - before) / search.reduction**i
        for i, (before, share) in enumerate(zip((0.0, *shares), shares, strict=False))
    )
    axes = "\n".join(f"  {name}: {axis}" for name, axis in search.axes.items())
    rungs = ", ".join(f"{share:.0%}" for share in shares)
    return (
        f"{search.trials} trials, {search.at_once} at a time, compared after {rungs} of their "
        f"steps:\n{axes}\nabout {least * search.trials:.1f} whole runs to train, and "
        f"{search.confirm} to confirm the best"
    )


def _report(plan: "Study", found: "Found", hand: "Sequence[RunConfig]") -> None:
    from scaling.config import run_name
    from scaling.records import RunDirectory
    from scaling.report import search as page
    from scaling.studies import study
    from scaling.tuning.search import loss_at, search_of

    search = search_of(plan)
    rows, spent, whole = [], 0.0, 0.0
    for trial in found.trials:
        config = found.configs[trial.number]
        steps, size = config.train.steps or 1, study.size(config)
        step = RunDirectory.open(config, FLAGS.workdir).status().get("step", 0)
        spent, whole = spent + size["flops"] * step / steps, whole + size["flops"]
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "loss": trial.loss,
                **{f"rung {i}": loss for i, loss in enumerate(trial.losses, start=1)},
                "step": step,
                "steps": steps,
                "params": size["params"],
                "flops": size["flops"],
                **trial.values,
                "run": run_name(config),
                "reason": trial.reason,
            }
        )

    def losses(configs: "Sequence[RunConfig]") -> dict[str, list[float]]:
        """By everything but the seed, as far as the runs ended."""
        from scaling.config import flat
        from scaling.records.tables import varying

        fields = [flat(config) for config in configs]
        differs = [name for name in varying(fields) if name != "seed"] if fields else []
        kinds: dict[str, list[float]] = {}
        for config, one in zip(configs, fields, strict=True):
            if RunDirectory.open(config, FLAGS.workdir).status().get("state") == "done":
                name = ", ".join(f"{n}={one.get(n)}" for n in differs) or "the study's own"
                kinds.setdefault(name, []).append(
                    loss_at(config, FLAGS.workdir, config.train.steps or 0)
                )
        return kinds

    folder = epath.Path(FLAGS.workdir) / "report" / f"{plan.name}-search"
    best = found.best
    written = page.write(
        folder,
        title=plan.name,
        question=plan.question,
        axes=list(search.axes),
        logarithmic=[n for n, axis in search.axes.items() if getattr(axis, "log", False)],
        rows=rows,
        best=None if best is None else best.number,
        share=spent / whole if whole else math.nan,
        in_vain=found.in_vain,
        confirmed=next(iter(losses(found.confirmed).values()), []),
        hand=losses(hand),
    )
    print(f"report: {written}")
