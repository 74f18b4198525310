"""The search itself: draw a generation, train it rung by rung, leave who is behind, draw the next.

Takes a study with a `search`, the folder of its journal and a function that trains runs up to given
steps; gives the trials. All that is remembered is in the journal and in the run directories, so
that starting a search again goes on with it. Called by `scaling/commands/tuning.py`.
"""

import hashlib
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from scaling.config import RunConfig, amounts, fingerprint, override, run_name, to_dict
from scaling.config.search import Search, Values
from scaling.config.sweep import Study
from scaling.errors import ConfigError, UserError
from scaling.executors import jobs as jobs_lib
from scaling.executors import plan as plan_lib
from scaling.executors.jobs import Job
from scaling.executors.result import Result
from scaling.records import RunDirectory
from scaling.tuning import journal as journal_lib
from scaling.tuning.halving import promoted
from scaling.tuning.journal import Journal, Made, Trial

Resolve = Callable[[RunConfig], RunConfig]
Asked = tuple[RunConfig, int]  # a resolved run, and the updates up to which it is trained
Train = Callable[[Sequence[Asked]], Sequence[Result]]  # results in the order asked
Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What a search has come to."""

    trials: tuple[Trial, ...]
    configs: dict[int, RunConfig]  # of each trial, resolved
    in_vain: tuple[str, ...]  # why draws were not counted
    confirmed: tuple[RunConfig, ...] = ()  # the best once more, with other seeds

    @property
    def best(self) -> Trial | None:
        """The lowest loss of those that came to their end."""
        ended = [t for t in self.trials if t.state == "done" and math.isfinite(t.loss)]
        return min(ended, key=lambda trial: trial.loss, default=None)


def search_of(plan: Study) -> Search:
    """Raises UserError for a study without one."""
    if plan.search is None:
        raise UserError(
            f"--tune: study {plan.name} says nothing of a search; give it search=Search(axes=...), "
            "as experiments/lr_batch.py has it"
        )
    return plan.search


def search(
    plan: Study, workdir: epath.PathLike, resolve: Resolve, train: Train, say: Say
) -> Found | None:
    """Search to the end, from wherever the journal stands; None: told to stop.

    Raises UserError as `journal.opened`, and for a journal whose runs are not those that the study
    now makes.
    """
    chosen = search_of(plan)
    folder = pathlib.Path(workdir) / "searches" / plan.name
    with journal_lib.opened(folder, chosen, _about(plan, chosen)) as journal:
        searching = _Searching(plan, chosen, workdir, resolve, train, say, journal)
        if not searching.go_on():
            return None
        found = searching.found()
        again = searching.again(found)
        if again and _stopped(train([(config, _steps(config)) for config in again])):
            return None
        return Found(found.trials, found.configs, found.in_vain, again)


def _about(plan: Study, chosen: Search) -> dict[str, Any]:
    """What makes two searches one; how many trials there are does not."""
    base = json.dumps(to_dict(plan.base), sort_keys=True)
    return {
        "axes": {name: repr(axis) for name, axis in chosen.axes.items()},
        "rungs": list(chosen.rungs),
        "reduction": chosen.reduction,
        "at_once": chosen.at_once,
        "seed": chosen.seed,
        "base": hashlib.sha256(base.encode()).hexdigest()[:16],
    }


class _Searching:
    def __init__(
        self,
        plan: Study,
        chosen: Search,
        workdir: epath.PathLike,
        resolve: Resolve,
        train: Train,
        say: Say,
        journal: Journal,
    ):
        assert isinstance(plan.base, RunConfig)
        self.base, self.plan, self.search, self.workdir = plan.base, plan, chosen, workdir
        self.resolve, self.train, self.say, self.journal = resolve, train, say, journal
        self.configs: dict[int, RunConfig] = {}
        self.exhausted = False

    def go_on(self) -> bool:
        """Until there is nothing to do; False: told to stop."""
        while True:
            self._draw()
            running = [trial for trial in self.journal.trials() if trial.state == "running"]
            if not running:
                return True
            # After a kill some of them may have been judged at a rung, and others not yet.
            rung = min(len(trial.losses) for trial in running)
            if rung and self._leave(running, rung):
                continue
            due = [trial for trial in running if len(trial.losses) == rung]
            if not self._train(due, rung):
                return False

    def _draw(self) -> None:
        """Up to a whole generation, unless one is in training that is whole."""
        known = self.journal.trials()
        whole = self.search.at_once
        if any(trial.state == "running" for trial in known) and len(known) % whole == 0:
            return
        until = min(self.search.trials, (len(known) // whole + 1) * whole)
        for _ in range(len(known), 0 if self.exhausted else until):
            if self.journal.draw(self._made) is None:
                self.exhausted = True
                self.say("nothing new is drawn any more: the axes have no more values")
                return

    def _made(self, values: Values) -> Made:
        try:
            changed = self.search.overridden(values)
            return changed, fingerprint(self.resolve(override(self.base, changed)))
        except ConfigError as error:
            return str(error)

    def _config(self, trial: Trial) -> RunConfig:
        if trial.number not in self.configs:
            config = self.resolve(override(self.base, trial.override))
            if fingerprint(config) != trial.run:
                raise UserError(
                    f"trial {trial.number} of the search was run {trial.run}, and is now "
                    f"{fingerprint(config)}: its data or the code have changed; give another "
                    "--workdir"
                )
            self.configs[trial.number] = config
        return self.configs[trial.number]

    def _leave(self, running: Sequence[Trial], rung: int) -> bool:
        """End those whose last rung this was, or who do not go on; whether there were any."""
        here = [trial for trial in running if len(trial.losses) == rung]
        ended = [trial for trial in here if rung == len(self._pauses(trial))]
        for trial in ended:
            self.journal.done(trial, trial.losses[-1])
        here = [trial for trial in here if trial not in ended]
        own = {trial.number: trial.losses[rung - 1] for trial in here}
        others = [
            trial.losses[rung - 1]
            for trial in self.journal.trials()
            if trial.number not in own and len(trial.losses) >= rung
        ]
        on = promoted(own, others, self.search.reduction) if own else set()
        behind = [trial for trial in here if trial.number not in on]
        for trial in behind:
            self.journal.leave(trial)
        return bool(ended or behind)

    def _pauses(self, trial: Trial) -> tuple[int, ...]:
        return self.search.pauses(_steps(self._config(trial)))

    def _train(self, due: Sequence[Trial], rung: int) -> bool:
        """To the next rung; False: told to stop."""
        asked = [(self._config(trial), self._pauses(trial)[rung]) for trial in due]
        best = self.found().best
        self.say(
            f"trials {_ranges([t.number for t in due])} of {self.search.trials}, rung {rung + 1} "
            f"of {len(self._pauses(due[0]))}"
            + (f"; best so far {best.loss:.4f}, trial {best.number}" if best else "")
        )
        results, workdir = self.train(asked), self.workdir
        if _stopped(results):
            return False
        for trial, (config, step), result in zip(due, asked, results, strict=True):
            if result.status == "failed":
                self.journal.failed(trial, result.reason or "failed")
                continue
            steps = _steps(config)
            if result.status == "diverged":
                self.journal.report(trial, math.inf)
            elif (loss := measured(config, workdir, step)) is not None:
                self.journal.report(trial, loss)
            elif result.status == "done" and step < steps:
                # Trained before, and not looked at here: it costs nothing, and is compared at its
                # end alone.
                self.journal.done(trial, loss_at(config, workdir, steps))
            else:
                raise _not_measured(config, workdir, step)
        return True

    def found(self) -> Found:
        trials = tuple(self.journal.trials())
        configs = {trial.number: self._config(trial) for trial in trials}
        return Found(trials, configs, tuple(self.journal.in_vain()))

    def again(self, found: Found) -> tuple[RunConfig, ...]:
        """The best trial with other seeds than its own."""
        if found.best is None or not self.search.confirm:
            return ()
        own = found.configs[found.best.number].seed
        seeds = range(own + 1, own + 1 + self.search.confirm)
        changed = [found.best.override | {"seed": seed} for seed in seeds]
        return tuple(self.resolve(override(self.base, o)) for o in changed)


def measured(config: RunConfig, workdir: epath.PathLike, step: int) -> float | None:
    """The loss on the validation set after so many updates; None: it was not measured."""
    for line in reversed(RunDirectory.open(config, workdir).metrics()):
        if line["split"] == "val" and line["step"] == step:
            return float(line["loss"])
    return None


def loss_at(config: RunConfig, workdir: epath.PathLike, step: int) -> float:
    """As `measured`. Raises UserError where it was not."""
    if (loss := measured(config, workdir, step)) is None:
        raise _not_measured(config, workdir, step)
    return loss


def _not_measured(config: RunConfig, workdir: epath.PathLike, step: int) -> UserError:
    path = RunDirectory.open(config, workdir).path
    return UserError(f"{path} has no loss on evals.sets.val after step {step}; give it that set")


def jobs_of(
    asked: Sequence[Asked], workdir: epath.PathLike, **planning: Any
) -> tuple[list[Job], list[Result]]:
    """Jobs that train runs to the steps asked, packed as `planning` says (`plan.plan`), and the
    results of those that are there already.
    """
    todo, results = [], []
    for config, step in asked:
        alone = Job((config,), pauses=_pauses(config, step))
        result = jobs_lib.ended(alone, config, workdir)
        if result is None:
            todo.append((config, step))
        else:
            results.append(result)
    # None leaves another: the share of a run that is trained depends on how well it does.
    planned = plan_lib.plan([c for c, _ in todo], workdir, branch=False, **planning).jobs
    steps = {run_name(config): _pauses(config, step) for config, step in todo}
    jobs = []
    for job in planned:
        pauses = itertools.chain.from_iterable(steps[run_name(config)] for config in job.configs)
        jobs.append(Job(job.configs, job.branches, job.trunks, job.parents, tuple(pauses)))
    return jobs, results


def _pauses(config: RunConfig, step: int) -> tuple[tuple[str, int], ...]:
    return ((run_name(config), step),) if step < _steps(config) else ()


def _steps(config: RunConfig) -> int:
    return amounts.resolved(config.train.steps)


def _stopped(results: Sequence[Result]) -> bool:
    return any(result.status in ("stopped", "pending") for result in results)


def _ranges(numbers: Sequence[int]) -> str:
    """ "0-11", or "3, 5, 8"."""
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 2 and list(numbers) == list(range(first, last + 1)):
        return f"{first}-{last}"
    return ", ".join(map(str, numbers))
