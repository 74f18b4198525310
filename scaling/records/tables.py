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
from scaling.config import RunConfig, flat
from scaling.config.provenance import provenance
from scaling.errors import DamagedError
from scaling.records import RunDirectory, find_runs, strict_json
from scaling.records.starts import as_trained

# What the numbers of a table mean; written beside every table.
CONVENTIONS = {
    "loss": "nats a token, mean over the evaluation set val after the last step; done runs only",
    "loss_se": "standard error of loss over the evaluated windows, nats",
    "bits_per_byte": "loss / ln 2 * tokens / bytes of the evaluated text",
    "params": "all trained parameters, token embedding and an untied head included",
    "params_non_embedding": "params without the token embedding and without an untied head",
    "params_active": "params without the routed experts that a token is not sent to",
    "tokens": "training tokens: steps * batch_size * seq_len, repeats counted",
    "unique_tokens": "distinct training tokens that the run could draw from",
    "epochs": "tokens / unique_tokens",
    "flops": "training FLOPs, forward and backward, attention included: flops_per_token * tokens; "
    "a multiply-add is two",
    "branched_from": "the run whose first steps this one shares, trained once; empty: none",
    "attempts": "times that the run ended badly and was, or was not, tried again: attempts.jsonl "
    "says when, why, and what was done",
    "healed": "execution fields that were changed so that the run could go on; the mathematics is "
    "the same",
    "spikes": "spikes of the loss that were gone back on, each with the batches up to it skipped: "
    "spikes.jsonl",
    "seconds": "wall-clock seconds in which the run was running, restarts added up; each member of "
    "a packed group has the whole group's, so a sum over runs is one of seconds / members",
    "members": "runs that were trained as one program with this one, itself included",
}
SIZES = (
    *("params", "params_non_embedding", "params_active"),
    *("tokens", "unique_tokens", "epochs", "flops"),
)
_LOSSES = ("loss", "loss_se", "bits_per_byte")
# Columns of every table, before and after what its runs vary; those of words, not numbers.
_FIRST = (
    *("fingerprint", "name", "status", "reason", *SIZES, *_LOSSES),
    *("train_loss", "width", "depth", "seed"),
)
_LAST = (
    *("branched_from", "seconds", "members", "attempts", "healed", "spikes"),
    *("corpus", "commit", "device"),
)
_WORDS = {
    *("fingerprint", "name", "status", "reason", "branched_from", "healed"),
    *("corpus", "commit", "device"),
}


def _runs(source: epath.PathLike | Iterable[RunDirectory]) -> list[RunDirectory]:
    return find_runs(source) if isinstance(source, str | os.PathLike) else list(source)


def table(source: epath.PathLike | Iterable[RunDirectory]) -> pd.DataFrame:
    """One row a run, of a workdir or of the runs given, in the order of size, then seed.

    Columns: fingerprint, name, status, reason, params, params_non_embedding, params_active, tokens,
    unique_tokens, epochs, flops, loss, loss_se, bits_per_byte, train_loss, width, depth, seed,
    `loss/<set>`, `loss_se/<set>` and `bits_per_byte/<set>` of every further evaluation set, every
    config field that differs between the runs under its dotted name, branched_from, seconds,
    members, attempts, healed, spikes, corpus, commit, device. `CONVENTIONS` says what they count.
    Losses are those after the last step: NaN for a run that is not done. A run whose files cannot
    be read has the status "damaged", a reason that names the file, and little else.
    """
    rows = [_row_or_damaged(run) for run in _runs(source)]
    configs = [row.pop("config") for row in rows]
    varying = _varying([config for config in configs if config])
    rows = [
        row | {field: config.get(field) for field in varying}
        for row, config in zip(rows, configs, strict=True)
    ]
    sets = sorted({c for row in rows for c in row if c.startswith(("loss", "bits_per_byte"))})
    names = [*_FIRST, *(s for s in sets if s not in _FIRST), *varying, *_LAST]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(names)))
    numbers = [c for c in (*SIZES, "train_loss", "seconds", *sets) if c in frame]
    frame[numbers] = frame[numbers].astype("float64")
    order = ["params", "unique_tokens", "tokens", *varying, "seed", "name"]
    return frame.sort_values(list(dict.fromkeys(order)), ignore_index=True, key=_sortable)


def _varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that differ between flat configs, by name."""
    every = sorted({field for config in configs for field in config})
    return [f for f in every if len({repr(config.get(f)) for config in configs}) > 1]


def columns(configs: Iterable[RunConfig]) -> dict[str, bool]:
    """The columns that the `table` of resolved runs will have, and which of them are numbers."""
    flats, sets = [], set[str]()
    for config in configs:
        flats.append(flat(config))
        sets |= {"" if name == "val" else f"/{name}" for name in config.evals.sets}
    out = {name: name not in _WORDS for name in (*_FIRST, *_LAST)}
    out |= {f"{kind}{name}": True for kind in _LOSSES for name in sets}
    for field in _varying(flats):
        kinds = {type(values.get(field)) for values in flats}
        out.setdefault(field, kinds <= {int, float, type(None)})
    return out


def _sortable(column: pd.Series) -> pd.Series:
    return column if pd.api.types.is_numeric_dtype(column) else column.map(str)


def _row_or_damaged(run: RunDirectory) -> dict[str, Any]:
    try:
        return _row(run)
    except DamagedError as error:
        nothing = {"members": 1, "attempts": 0, "spikes": 0, "config": {}}
        return {"name": run.path.name, "status": "damaged", "reason": str(error)} | nothing


def _row(run: RunDirectory) -> dict[str, Any]:
    record, status = as_trained(run.record()), run.status()
    config = run.config(record)
    size, made_by = record["size"], record["provenance"]
    tokens, unique = size.get("tokens"), size.get("unique_tokens") or config.data.unique_tokens
    done = status.get("state") == "done"
    final = run.latest(["train", *config.evals.sets]) if done else {}
    dirty = "+changes" if made_by.get("dirty") else ""
    row: dict[str, Any] = {
        "fingerprint": record["fingerprint"],
        "name": run.path.name,
        "status": status.get("state", "stopped"),
        "reason": status.get("reason"),
        **{name: size.get(name) for name in SIZES},
        "unique_tokens": unique,
        "epochs": tokens / unique if tokens and unique else None,
        "width": config.model.width,
        "depth": config.model.depth,
        "seed": config.seed,
        "branched_from": run.branch().get("trunk"),
        "seconds": status.get("seconds"),
        "members": made_by.get("members", 1),
        "attempts": len(run.attempts()),
        "healed": ", ".join(f"{k}={v}" for k, v in run.changed().items()) or None,
        "spikes": len(run.spikes()),
        "corpus": config.data.corpus,
        "commit": made_by["commit"] + dirty if made_by.get("commit") else None,
        "device": made_by.get("device_kind"),
        "config": flat(config),
    }
    for name in config.evals.sets:
        line, suffix = final.get(name, {}), "" if name == "val" else f"/{name}"
        for column in _LOSSES:
            row[column + suffix] = line.get(column)
    seen = [
        name
        for name, s in config.evals.sets.items()
        if s.split == "train" and s.source is None and s.part is None
    ]
    row["train_loss"] = final.get(seen[0] if seen else "train", {}).get("loss")
    return row


def curves(run: RunDirectory, lines: Sequence[Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """Every line of a run's metrics (or these of them), with `tokens` seen so far. At least step,
    split, loss.
    """
    config = run.config()
    frame = pd.DataFrame(run.metrics() if lines is None else lines, columns=None)
    if frame.empty:
        return pd.DataFrame(columns=["step", "split", "loss", "tokens"])
    return frame.assign(tokens=frame["step"] * config.train.batch_size * config.data.seq_len)


def about(frame: pd.DataFrame) -> dict[str, Any]:
    """What stands beside a table: conventions, who wrote it, and what its runs have in common.

    `warnings` are sentences to be shown loudly: losses on different corpora do not compare.
    """

    def count(column: str) -> dict[str, int]:
        return {str(k): int(v) for k, v in frame[column].value_counts().sort_index().items()}

    corpora = count("corpus")
    warnings = []
    if len(corpora) > 1:
        warnings.append(
            f"THESE RUNS WERE TRAINED ON {len(corpora)} DIFFERENT CORPORA "
            f"({', '.join(corpora)}): their losses do not compare. Fit each corpus by itself."
        )
    return {
        "warnings": warnings,
        "runs": len(frame),
        "states": count("status"),
        "corpora": corpora,
        "commits": count("commit"),
        "devices": count("device"),
        "conventions": CONVENTIONS,
        "written_by": provenance(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


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
