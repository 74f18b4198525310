"""The table of many runs, a row a run, with what its columns count.

`table` reads run directories into one DataFrame for `scaling/laws` and `scaling/report`;
`write_table` stores it with its conventions; `curves` gives the metrics of one run. No jax in this
file.
"""

import datetime
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from etils import epath

from scaling import files
from scaling.config import RunConfig, amounts, choices, contracts, flat, passes
from scaling.config.provenance import provenance
from scaling.records import RunDirectory, find_runs, parents, strict_json, tasks
from scaling.records.conventions import conventions, measures, values_in
from scaling.records.rows import BITS, EPSILON, JUDGED, SIZES, row_of, truth

# Columns of every table, before and after those of its sets and of what its runs vary; those of
# words, not numbers.
_FIRST = ("fingerprint", "name", "status", "reason", *SIZES[:3])
_MIDDLE = ("unit", *SIZES[3:], "objective")
_AFTER = ("train_loss", "width", "depth", "seed")
# Of runs that begin with others, or of which not all is trained; the first is a word.
_TUNED = ("trained", "amount_before", "params_trained")
_LAST = (
    *("branched_from", "seconds", "joules", "joules_per_unit", "grams_co2", "joules_by"),
    *("members", "attempts", "healed", "spikes"),
    *("corpus", "commit", "device"),
)
_TAUGHT = ("teacher_loss", "supervised_loss")  # of runs with a teacher
_TEACHER = "distill.teacher"  # a model as JSON, which `begins.run` says as well
# Columns of runs of which people say something (`notes.py`).
_SAID = ("tags", "note")
_WORDS = {
    *_SAID,
    *("fingerprint", "name", "status", "reason", "unit", "objective", "branched_from"),
    *("healed", "corpus", "commit", "device", "trained", "truth", "truth_of", "joules_by"),
}


def _runs(source: epath.PathLike | Iterable[RunDirectory]) -> list[RunDirectory]:
    return find_runs(source) if isinstance(source, str | os.PathLike) else list(source)


def table(source: epath.PathLike | Iterable[RunDirectory]) -> pd.DataFrame:
    """One row a run, of a workdir or of the runs given, in the order of size, then seed.

    Columns: fingerprint, name, status, reason, params, params_non_embedding, params_active, amount
    and unique under their unit's names (tokens, unique_tokens), unit, amount, unique, epochs,
    flops, objective, its metrics (loss, loss_se, ...), train_loss, width, depth, seed,
    trained, amount_before and params_trained where runs begin with others or are trained in part,
    tasks, <metric>_of_tasks and <metric>_forgotten where they have learned tasks before (`tasks`),
    epsilon where runs train with privacy, density where weights are pruned, bits where they are
    rounded, teacher_loss and supervised_loss where a teacher is asked,
    `<metric>/<set>` of every further evaluation set, what is known of the law of the data (truth,
    truth_of, true_floor, true_floor_se, true_exponent/<column>), every config field that differs
    between the runs under its dotted name, branched_from, seconds, joules, joules_per_unit,
    grams_co2, joules_by, members, attempts, healed,
    spikes, corpus, commit, device; and of runs that were judged by their samples, the columns
    `JUDGED`; tags (with commas) and note, the last, where people said something.
    `conventions` says what they count.
    Losses are those after the last step: NaN for a run that is not done. A run whose files cannot
    be read has the status "damaged", a reason that names the file, and little else.
    """
    rows = [row_of(run) for run in _runs(source)]
    configs = [row.pop("config") for row in rows]
    losses = {row.get("fingerprint"): row.get("loss") for row in rows}
    for row, config in zip(rows, configs, strict=True):
        row["supervised_loss"] = losses.get(parents.untaught(config)) if config else None
    flats: list[dict[str, Any]] = [flat(config) if config else {} for config in configs]
    differing = varying([values for values in flats if values])
    rows = [
        row | {field: values.get(field, _missing(field)) for field in differing}
        for row, values in zip(rows, flats, strict=True)
    ]
    names = _names([config for config in configs if config], differing)
    names += [name for name in (*JUDGED, *_SAID) if any(row.get(name) for row in rows)]
    frame = pd.DataFrame(rows, columns=names)
    numbers = [name for name in names if name not in _WORDS | {*differing} and name not in _KEPT]
    frame[numbers] = frame[numbers].astype("float64")
    order = ["params", "unique", "amount", *differing, "seed", "name"]
    return frame.sort_values(list(dict.fromkeys(order)), ignore_index=True, key=_sortable)


# Whole numbers, which stay so.
_KEPT = {"width", "depth", "seed", "members", "attempts", "spikes"}


def _names(configs: Sequence[RunConfig], varying: Sequence[str]) -> list[str]:
    """The columns of a table of these runs, in their order."""
    units = list(dict.fromkeys(config.data.unit for config in configs))
    metrics = _metrics(configs)
    begun = any(config.begins.run is not None for config in configs)
    adapted = any(config.transform.name != "none" for config in configs)
    mixed = any(config.mixture.shares for config in configs)
    tuned = [*_TUNED[:1], *_TUNED[1:2] * begun, *_TUNED[2:] * adapted] * (begun or adapted or mixed)
    tuned += [name for config in configs if tasks.has_any(config) for name in tasks.columns(config)]
    own = [name for unit in units for name in (f"{unit}s", f"unique_{unit}s")]
    pairs = {
        (column, name)
        for config in configs
        for name in config.evals.sets
        for column in contracts.columns(passes.metrics(config, name))
    }
    private = [EPSILON] * any(config.privacy.clip_norm is not None for config in configs)
    transforms = [(choices.transform(config.transform), config.transform) for config in configs]
    private += dict.fromkeys(name for record, _ in transforms for name in record.measures)
    private += [BITS] * any(record.bits(own) is not None for record, own in transforms)
    private += _TAUGHT if any(config.distill.weight for config in configs) else ()
    further = [f"{column}/{name}" for column, name in sorted(pairs) if name != "val"]
    true = list(dict.fromkeys(name for config in configs for name in truth(config)))
    names = [*_FIRST, *own, *_MIDDLE, *metrics, *_AFTER, *tuned, *private, *further, *true]
    names += [*varying, *_LAST]
    return list(dict.fromkeys(names))


def _metrics(configs: Iterable[RunConfig]) -> list[str]:
    """The metrics of the objectives of some runs; of none, the loss."""
    found = [n for c in configs for n in contracts.columns(choices.objective(c.objective).metrics)]
    return list(dict.fromkeys(found)) or ["loss", "loss_se"]


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that differ between flat configs, by name."""
    every = sorted({field for config in configs for field in config} - {_TEACHER})
    return [f for f in every if _differ([config.get(f) for config in configs])]


def _missing(field: str) -> float | None:
    """What stands for a field that a run's config does not have: of what is not mixed in, no
    share.
    """
    return 0.0 if field.startswith("mixture.shares.") else None


def _differ(values: list[Any]) -> bool:
    """Whether they read differently: 1 and 1.0 do."""
    first, kind = values[0], type(values[0])
    if all(type(value) is kind and value == first for value in values):
        return False
    return len({repr(value) for value in values}) > 1


def columns(configs: Sequence[RunConfig]) -> dict[str, bool]:
    """The columns that the `table` of resolved runs will have, and which of them are numbers."""
    flats = [flat(config) for config in configs]
    differing = varying(flats)
    out = {name: name not in _WORDS for name in _names(configs, [])}
    for field in differing:
        kinds = {type(values.get(field)) for values in flats}
        out.setdefault(field, kinds <= {int, float, type(None)})
    return out


def _sortable(column: pd.Series) -> pd.Series:
    return column if pd.api.types.is_numeric_dtype(column) else column.map(str)


def curves(run: RunDirectory, lines: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """Every line of a run's metrics (or these of them), with the `amount` of data seen so far, also
    under its unit's name. At least step, split, loss.
    """
    config = run.config()
    frame = pd.DataFrame(run.metrics() if lines is None else lines, columns=None)
    name = f"{config.data.unit}s"
    if frame.empty:
        return pd.DataFrame(columns=["step", "split", "loss", "amount", name])
    amount = frame["step"] * amounts.units_per_step(config)
    return frame.assign(**{"amount": amount, name: amount})


def about(frame: pd.DataFrame) -> dict[str, Any]:
    """What stands beside a table: units, metrics (`measures`), conventions, who wrote it, and what
    its runs have in common.

    `warnings` are sentences to be shown loudly: what does not compare.
    """

    def count(column: str) -> dict[str, int]:
        return {str(k): int(v) for k, v in frame[column].value_counts().sort_index().items()}

    return {
        "warnings": _warnings(frame),
        "runs": len(frame),
        "states": count("status"),
        "corpora": count("corpus"),
        "commits": count("commit"),
        "devices": count("device"),
        "units": values_in(frame, "unit"),
        "metrics": measures(frame),
        "conventions": conventions(frame),
        "written_by": provenance(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _warnings(frame: pd.DataFrame) -> list[str]:
    measured = frame.groupby(["objective", "unit"])  # without runs that cannot be read
    warnings = []
    if len(measured) > 1:
        named = ", ".join(f"{objective} of {unit}s" for objective, unit in measured.groups)
        warnings.append(
            f"THESE RUNS MEASURE {len(measured)} DIFFERENT THINGS ({named}): their numbers do not "
            "compare. Fit each by itself."
        )
    trained_on = [values_in(rows, "corpus") for _, rows in measured]
    if corpora := sorted({name for names in trained_on if len(names) > 1 for name in names}):
        warnings.append(
            f"THESE RUNS WERE TRAINED ON {len(corpora)} DIFFERENT CORPORA "
            f"({', '.join(corpora)}): their losses do not compare. Fit each corpus by itself."
        )
    return warnings


def write_table(frame: pd.DataFrame, workdir: epath.PathLike) -> dict[str, Any]:
    """Writes `table.parquet`, `table.csv` and `table.json` (see `about`), each atomically.

    The same facts are in the Parquet file's metadata, under the key "scaling". Gives them back.
    """
    workdir, facts = epath.Path(workdir), about(frame)
    files.make_directory(workdir)
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), b"scaling": strict_json.encode(facts)}
    )
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(arrow, sink)
    files.write_atomic(workdir / "table.parquet", sink.getvalue().to_pybytes())
    files.write_atomic(workdir / "table.csv", frame.to_csv(index=False).encode())
    files.write_atomic(workdir / "table.json", strict_json.encode(facts, indent=2))
    return facts
