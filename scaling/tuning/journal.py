"""The trials of a search, in a journal that Optuna keeps and a kill at any moment leaves readable.

Takes the folder of the search; gives trials, and draws new ones. What is drawn is a function of the
search's seed, of the trial's number and of what was known then, so that a search that was killed
draws what it would have drawn. Called by `scaling/tuning/search.py`.
"""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling import files
from scaling.config.search import Among, Axis, Search, Values
from scaling.errors import UserError

_ATTEMPTS = 200  # draws of one trial, of which all but the last are known or cannot be
_PATIENCE = 5  # of them by what is known, which in a small space proposes the same again and again


@dataclass(frozen=True)
class Trial:
    """One draw of the search."""

    number: int  # from 0, without what was drawn in vain
    values: Values
    override: dict[str, Any]  # of the study's base
    run: str  # fingerprint
    losses: tuple[float, ...]  # at the rungs it came to; infinite where it has diverged
    loss: float  # at the end, or at the last rung; NaN: none
    state: str  # running, left (at a rung), done, failed
    reason: str | None
    id: int  # Optuna's number


# Of the values of a draw: the override and the fingerprint of its run, or why there is none.
Made = tuple[dict[str, Any], str] | str


@contextlib.contextmanager
def opened(folder: pathlib.Path, search: Search, about: dict[str, Any]) -> Iterator["Journal"]:
    """The journal in `folder`, new or as it was left; no other process has it meanwhile.

    Args:
      folder: local.
      search: what is searched.
      about: as JSON has it, what a search must have in common with the one that began the journal.

    Raises UserError where Optuna is missing, another process searches, or the journal is another
    search's.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise UserError("--tune needs Optuna; install it with pip install '.[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    files.make_directory(folder)
    with files.exclusive(folder / "lock"):
        path = folder / "journal.jsonl"
        _mend(path)
        lock: Any = _NoLock()
        backend = JournalFileBackend(str(path), lock_obj=lock)
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="search", load_if_exists=True)
        known = study.user_attrs.get("about")
        if known is None:
            study.set_user_attr("about", about)
        elif changed := [name for name in about if known.get(name) != about[name]]:
            raise UserError(
                f"{folder} holds a search with other {' and '.join(changed)}; give "
                "another --workdir, or the study another name"
            )
        journal = Journal(study, search)
        journal.mend()
        yield journal


def _mend(path: pathlib.Path) -> None:
    """Drop a last line that a kill left without its end."""
    if path.exists() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        files.write_atomic(path, text[: text.rfind(b"\n") + 1])


class _NoLock:
    """For Optuna's backend, which would leave a lock behind when it is killed: the folder has one
    that the kernel releases.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing is held."""


class Journal:
    """See the module. Every method leaves the file such that the next process can go on."""

    def __init__(self, study: Any, search: Search):
        self._study, self._search = study, search
        self._many = math.prod(map(_count, search.axes.values())) if _finite(search) else None
        self._axes = {name: _distribution(axis) for name, axis in search.axes.items()}

    def trials(self) -> list[Trial]:
        """By number."""
        found = [t for t in self._study.get_trials(deepcopy=False) if "number" in t.user_attrs]
        return sorted((_trial(t) for t in found), key=lambda trial: trial.number)

    def mend(self) -> None:
        """Give up what a kill left half drawn; it will be drawn again."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and "number" not in trial.user_attrs:
                self._tell(trial.number, "FAIL")

    def draw(self, made: Callable[[Values], Made]) -> Trial | None:
        """The next trial; None when nothing new could be drawn.

        `made`: the run of values; one that an earlier trial has, or that cannot be, is not counted,
        and drawn again.
        """
        known = self.trials()
        number, runs = len(known), {trial.run for trial in known}
        drawn = self._study.get_trials(deepcopy=False)
        attempts = sum(t.user_attrs.get("in vain") == number for t in drawn)
        for attempt in range(attempts, _ATTEMPTS):
            if self._all_drawn():
                return None
            self._study.sampler = self._sampler(number, attempt)
            trial = self._study.ask(self._axes)
            run = made(dict(trial.params))
            if isinstance(run, str) or run[1] in runs:
                trial.set_user_attr("reason", run if isinstance(run, str) else "drawn before")
                trial.set_user_attr("in vain", number)
                self._tell(trial.number, "FAIL")
                continue
            trial.set_user_attr("override", run[0])
            trial.set_user_attr("run", run[1])
            trial.set_user_attr("number", number)  # last: with it the trial is whole
            return self.trials()[-1]
        return None

    def _all_drawn(self) -> bool:
        """Whether there are no values that were never drawn."""
        if self._many is None:
            return False
        drawn = self._study.get_trials(deepcopy=False)
        return len({repr(sorted(t.params.items())) for t in drawn}) >= self._many

    def _sampler(self, number: int, attempt: int) -> Any:
        """Made anew for each draw, so that what it draws depends on no process's past."""
        from optuna import samplers

        seeds = np.random.SeedSequence([self._search.seed, number, attempt])
        seed = int(seeds.generate_state(1)[0])
        if attempt >= _PATIENCE:
            return samplers.RandomSampler(seed)
        startup = self._search.at_once
        return samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=startup
        )

    def in_vain(self) -> list[str]:
        """Why draws were not counted."""
        drawn = self._study.get_trials(deepcopy=False)
        return [t.user_attrs["reason"] for t in drawn if "in vain" in t.user_attrs]

    def report(self, trial: Trial, loss: float) -> None:
        """Its loss at the next rung."""
        import optuna

        self._study.sampler = optuna.samplers.RandomSampler(seed=0)  # draws nothing here
        asked = optuna.trial.Trial(self._study, self._id(trial))
        asked.report(loss, len(trial.losses) + 1)

    def leave(self, trial: Trial) -> None:
        """It is not trained further."""
        self._tell(trial.id, "PRUNED")

    def done(self, trial: Trial, loss: float) -> None:
        """It came to its end with this loss."""
        self._tell(trial.id, "COMPLETE", loss)

    def failed(self, trial: Trial, reason: str) -> None:
        """It could not be trained; its values say nothing."""
        self._study._storage.set_trial_user_attr(self._id(trial), "reason", reason)
        self._tell(trial.id, "FAIL")

    def _id(self, trial: Trial) -> int:
        """The storage's."""
        return next(
            t._trial_id for t in self._study.get_trials(deepcopy=False) if t.number == trial.id
        )

    def _tell(self, number: int, state: str, loss: float | None = None) -> None:
        import optuna

        self._study.tell(number, loss, state=optuna.trial.TrialState[state])


def _distribution(axis: Axis) -> Any:
    from optuna import distributions

    if isinstance(axis, Among):
        return distributions.CategoricalDistribution(axis.values)
    if axis.whole:
        return distributions.IntDistribution(math.ceil(axis.low), math.floor(axis.high), axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, axis.log)


def _finite(search: Search) -> bool:
    return all(isinstance(axis, Among) or axis.whole for axis in search.axes.values())


def _count(axis: Axis) -> int:
    """Of its values, where they can be counted."""
    if isinstance(axis, Among):
        return len(axis.values)
    return math.floor(axis.high) - math.ceil(axis.low) + 1


_STATES = {"RUNNING": "running", "PRUNED": "left", "COMPLETE": "done", "FAIL": "failed"}


def _trial(found: Any) -> Trial:
    said = found.user_attrs
    losses = tuple(loss for _, loss in sorted(found.intermediate_values.items()))
    ended = found.value if found.state.name == "COMPLETE" else None
    return Trial(
        number=said["number"],
        values=dict(found.params),
        override=dict(said["override"]),
        run=said["run"],
        losses=losses,
        loss=float(ended) if ended is not None else (*losses, math.nan)[max(0, len(losses) - 1)],
        state=_STATES[found.state.name],
        reason=said.get("reason"),
        id=found.number,
    )
