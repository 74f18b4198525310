"""What the columns of a table of runs count, in words: by the units of data and the objectives.

Takes the table of `tables.py`, or what it has of units and objectives; gives the metric behind a
column (label, unit, which way is better) and a sentence for every column. Written beside every
table; read by the report and by the view of a sweep. No jax in this file.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from scaling.config import choices
from scaling.config.contracts import Metric
from scaling.errors import ConfigError
from scaling.metrics.declared import OF_PASSES
from scaling.records import tasks

MAIN = "loss"  # the metric that laws are fitted to
_SIZES = {
    "unit": "what the data are counted in",
    "amount": "what was trained on, in the unit of the data: steps * batch_size * units of an "
    "example, repeats counted",
    "unique": "distinct units of training data that the run could draw from",
    "epochs": "amount / unique",
    "flops": "training FLOPs, forward and backward, attention included: FLOPs a unit * amount; a "
    "multiply-add is two",
    "objective": "what was minimised; says what the columns of metrics mean",
}
_RUNS = {
    "trained": "which parameters were: whole, or by a transform, or how what was known was held on "
    "to (distilled, ewc, mixed); scratch: begun with no other run",
    "amount_before": "what the runs that this one begins with were trained on, added up; 0: none",
    "params_trained": "numbers that were trained, where a transform trains others than params",
    "epsilon": "privacy lost to whoever sees the model, at privacy.delta, by Rényi accounting as "
    "if every example were in a batch by chance (scaling/costs/privacy.py)",
    "density": "share of all parameters that pruning leaves, after the last step; 1 minus sparsity "
    "where all weights are pruned",
    "bits": "of each weight as it is used in training, of those that are rounded; 32: of none",
    "teacher_loss": "loss of the run that a distilled one was taught by, on its own validation set",
    "supervised_loss": "loss of the same run without its teacher, if it is in the table",
    "branched_from": "the run whose first steps this one shares, trained once; empty: none",
    "attempts": "times that the run ended badly and was, or was not, tried again: attempts.jsonl "
    "says when, why, and what was done",
    "healed": "execution fields that were changed so that the run could go on; the mathematics is "
    "the same",
    "spikes": "spikes of the loss that were gone back on, each with the batches up to it skipped: "
    "spikes.jsonl",
    "seconds": "wall-clock seconds in which the run was running, restarts added up; each member of "
    "a packed group has the whole group's, so a sum over runs is one of seconds / members",
    "joules": "energy of this run alone, restarts added up, of a packed group its share; times "
    "energy.pue; joules_by says whether a meter or an estimate",
    "joules_per_unit": "joules over the units of data trained on",
    "grams_co2": "joules at energy.grams_per_kwh",
    "joules_by": "what counted the joules: NVML, RAPL, or what an estimate takes devices to draw",
    "tags": "that people gave the run, with commas between them (launch.py tag)",
    "note": "the last that people wrote of the run",
    "members": "runs that were trained as one program with this one, itself included",
}
_TRUTH = {
    "truth": "who says what is true of the law of the data",
    "truth_of": "the column that it is said of",
    "true_floor": "what that tends to as models and data grow, in its own unit",
    "true_floor_se": "standard error of true_floor, where it was estimated; 0: exact",
}
_DISTANCE = "Fréchet distance from the validation examples, by the judge's features, of "
_JUDGED = {
    "sample_distance": f"{_DISTANCE}as many samples of the trained model; samples.json",
    "sample_distance_untrained": f"{_DISTANCE}as many samples of the model before its first update",
    "sample_distance_real": f"{_DISTANCE}as many examples of the train split",
    "sample_right": "share of samples of a class that the judge gives that class; of conditional "
    "models; samples.json",
}


def metrics_of(objective: str | None) -> Mapping[str, Metric]:
    """Column -> metric, of an objective by its name; of one that is not known here, the loss."""
    if objective is not None:
        try:
            return choices.record("objective", objective).metrics
        except ConfigError:  # registered where the runs were trained, not here
            pass
    return {MAIN: Metric(MAIN)}


def main_metric(objective: str | None) -> Metric:
    """The metric of the column "loss"."""
    return metrics_of(objective)[MAIN]


def of_pass(column: str) -> tuple[Metric, str] | None:
    """(metric, evaluation set) of a column of a set that is not evaluated by rows; of others, None:
    "exact_match/copied".
    """
    name, _, of_set = column.partition("/")
    return (OF_PASSES[name], of_set) if of_set and name in OF_PASSES else None


def values_in(frame: pd.DataFrame, column: str) -> list[str]:
    """The distinct words of a column, those of runs that cannot be read left out; [] without it."""
    return sorted({v for v in frame[column] if isinstance(v, str)}) if column in frame else []


def measures(frame: pd.DataFrame) -> dict[str, dict[str, dict[str, str]]]:
    """Objective -> column -> label, unit and better ("lower", "higher"), as it is stored."""
    shown = ("label", "unit", "better")
    return {
        objective: {
            column: {name: getattr(metric, name) for name in shown}
            for column, metric in metrics_of(objective).items()
            if metric.tabled
        }
        for objective in values_in(frame, "objective")
    }


def conventions(frame: pd.DataFrame) -> dict[str, str]:
    """Column -> what it counts, in its unit, of the table of runs."""
    units, objectives = values_in(frame, "unit"), values_in(frame, "objective")
    found = _metrics({name: metrics_of(name) for name in objectives} or {"": metrics_of(None)})
    judged = {name: text for name, text in _JUDGED.items() if name in frame}
    passes = {column: _of_set(*of) for column in frame if (of := of_pass(column))}
    passes |= {column: said for column in frame if (said := tasks.meaning(column))}
    true = {name: text for name, text in _TRUTH.items() if name in frame}
    for column in (c for c in frame if c.startswith("true_exponent/")):
        of = column.partition("/")[2]
        true[column] = f"power of {of} that the distance from true_floor falls with in theory"
    return found | _params(units) | _SIZES | _amounts(units) | _RUNS | passes | judged | true


def _metrics(objectives: Mapping[str, Mapping[str, Metric]]) -> dict[str, str]:
    """A sentence for every column of metrics; of several objectives, with their names."""
    said: dict[str, dict[str, None]] = {}
    for objective, metrics in objectives.items():
        of = f"{objective}: " if len(objectives) > 1 else ""
        for column, metric in metrics.items():
            if not metric.tabled:
                continue
            unit = [metric.unit] if metric.unit else []
            said.setdefault(column, {})[of + _sentence(column, metric)] = None
            if column == MAIN or metric.finish is not None:
                error = [f"standard error of {column} over the evaluated rows", *unit]
                said.setdefault(f"{column}_se", {})[of + ", ".join(error)] = None
    return {column: "; ".join(sentences) for column, sentences in said.items()}


def _sentence(column: str, metric: Metric) -> str:
    """ "accuracy, of the same evaluation; higher is better"."""
    label = [] if column == metric.label else [metric.label]
    unit = [metric.unit] if metric.unit else []
    main = "mean over the evaluation set val after the last step; done runs only"
    parts = [*label, *unit, main if column == MAIN else "of the same evaluation"]
    text = metric.meaning or ", ".join(parts)
    return text + ("; higher is better" if metric.better == "higher" else "")


def _of_set(metric: Metric, name: str) -> str:
    higher = "; higher is better" if metric.better == "higher" else ""
    return f"{metric.label}, of the evaluation set {name} after the last step{higher}"


def _params(units: Sequence[str]) -> dict[str, str]:
    tables = "token embedding" if units == ["token"] else "embeddings"
    the = "the " if units == ["token"] else ""
    unit = " or ".join(units) or "row"
    article = "an" if unit[0] in "aeio" else "a"
    return {
        "params": f"all trained parameters, {tables} and an untied head included",
        "params_non_embedding": f"params without {the}{tables} and without an untied head",
        "params_active": f"params without the routed experts that {article} {unit} is not sent to",
    }


def _amounts(units: Iterable[str]) -> dict[str, str]:
    return {
        f"{unit}s": f"amount, of runs whose unit is the {unit}; likewise unique_{unit}s"
        for unit in units
    }
