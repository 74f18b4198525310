"""What a run still knows of the tasks that the runs before it were trained on, one after the other.

Takes a run, those that it begins with, and the last line of each evaluation set; gives columns of
the table of runs. An earlier task is known by its data: an evaluation set of this run whose content
an earlier run was trained on. No jax in this file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scaling.config import RunConfig, choices, contracts
from scaling.records.directory import RunDirectory

LEARNED = "tasks"  # column: how many, this run's own among them
_KEPT, _FORGOTTEN = "_of_tasks", "_forgotten"


def has_any(config: RunConfig) -> bool:
    """Whether a run may tell what it knows of earlier tasks."""
    return config.begins.run is not None and len(_sets(config)) > 1


def columns(config: RunConfig) -> list[str]:
    """Those of runs of which `has_any` holds."""
    return [LEARNED, *(name + of for name in _metrics(config) for of in (_KEPT, _FORGOTTEN))]


def meaning(column: str) -> str | None:
    """A sentence for one of the columns; None: it is none of them."""
    name, sets = column, "the evaluation set of each task"
    if column == LEARNED:
        return "how many data, with an evaluation set each, this run and those before it learned"
    if column.endswith(_KEPT):
        return f"mean {name.removesuffix(_KEPT)} over {sets} so far, this run's own among them"
    if column.endswith(_FORGOTTEN):
        name = name.removesuffix(_FORGOTTEN)
        return (
            f"by how much {name} on {sets} before this one is worse than when it had been learned, "
            "mean over those (minus the backward transfer of Lopez-Paz and Ranzato 2017)"
        )
    return None


def remembered(
    config: RunConfig,
    earlier: Sequence[RunDirectory] | None,
    final: Mapping[str, Mapping[str, Any]],
) -> dict[str, float]:
    """The columns of a run that is done; none where nothing is known of an earlier task.

    Args:
      earlier: the runs before it, the last first (`parents.before`); None: not known.
      final: evaluation set -> its line after the last step.
    """
    sets, then = _sets(config), dict[str, RunDirectory]()
    own = {name for name, corpus in sets.items() if corpus == config.data.corpus}
    for run in reversed(earlier or ()):
        for name, corpus in sets.items():
            if name not in own and corpus == run.config().data.corpus:
                then[name] = run
    if not then or not final:
        return {}
    found = {LEARNED: len(then) + 1.0}
    lines = {name: run.latest([name, "val"]) for name, run in then.items()}
    for metric, of in _metrics(config).items():
        now: list[Any] = [final.get(name, {}).get(metric) for name in (*then, "val")]
        old: list[Any] = [
            lines[name].get(name, lines[name].get("val", {})).get(metric) for name in then
        ]
        if None in (*now, *old):
            continue
        worse = 1 if of.better == "lower" else -1
        found[metric + _KEPT] = sum(now) / len(now)
        found[metric + _FORGOTTEN] = worse * (sum(now[:-1]) - sum(old)) / len(old)
    return found


def _sets(config: RunConfig) -> dict[str, str | None]:
    """Content of each evaluation set that a task may have."""
    return {
        name: one.corpus
        for name, one in config.evals.sets.items()
        if one.by == "rows" and one.split == "validation"
    }


def _metrics(config: RunConfig) -> dict[str, contracts.Metric]:
    metrics = choices.objective(config.objective).metrics
    return {name: metric for name, metric in metrics.items() if metric.tabled}
