"""The rows of a table that a law can be fitted to, as arrays; bad cells are named, not guessed.

Gives `Rows`, `numbers` and `labels` for single columns, and `pooled`, what of our own runs is
mixed. Called by `fitting.py` and by all that read a column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling import units
from scaling.config import LENGTHS, RunConfig, choices, to_identity
from scaling.config.nested import flatten
from scaling.errors import UserError, nearest
from scaling.laws.law import Law
from scaling.laws.measures import amounts_of
from scaling.laws.options import Options
from scaling.laws.table import floats

TIED = 0.05  # share by which units of data may be off a power of the parameters and count as tied
RUN_COLUMNS = ("run", "run_id", "run_name", "fingerprint")  # that tell runs apart


@dataclass(frozen=True)
class Rows:
    """What a fit uses of a table."""

    columns: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]  # before `prepare`
    loss: np.ndarray
    sd: np.ndarray | None
    cluster: np.ndarray | None
    kept: np.ndarray  # row numbers in the table
    copies: np.ndarray  # [rows]: how many exact copies of each are left out
    flags: tuple[str, ...]
    tied: bool  # the units of data of all rows follow from their parameters


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats. Raises UserError for a missing column or a cell that is no number."""
    if name not in table.columns:
        raise UserError(f"the table has no column {name}{nearest(name, map(str, table.columns))}")
    values, wrong = floats(table[name])
    if wrong:
        way = "; correct it, or leave such rows out with --where" if "is no number" in wrong else ""
        raise UserError(f"column {name} holds {wrong}{way}")
    return values


def labels(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column of any values as numbers 0, 1, ... of the distinct ones; empty cells are NaN."""
    if name not in table.columns:
        raise UserError(f"the table has no column {name}{nearest(name, map(str, table.columns))}")
    return np.where(table[name].notna(), np.array(units.numbered(table[name]), float), np.nan)


def groups(table: pd.DataFrame, name: str) -> list[tuple[Any, pd.DataFrame]]:
    """The rows of each distinct value of a column, with the value: numbers in their order, text in
    its own, then what is neither; empty cells are a group like any other, the last.
    """
    if name not in table.columns:
        raise UserError(f"--by: the table has no column {name}{nearest(name, table.columns)}")
    number = np.array(units.numbered(table[name]), int)
    values = [table[name].iloc[int(np.argmax(number == k))] for k in range(int(number.max()) + 1)]

    def place(k: int) -> tuple[int, Any, str]:
        value = values[k]
        if isinstance(value, str | bytes) or np.ndim(value):
            return 1, 0.0, str(value)
        if pd.isna(value):
            return 3, 0.0, ""
        is_number = isinstance(value, int | float | np.number)
        return (0, value, "") if is_number else (2, 0.0, str(value))

    return [(values[k], table[number == k]) for k in sorted(range(len(values)), key=place)]


def clusters(table: pd.DataFrame, name: str) -> np.ndarray:
    """Clusters 0, 1, ... of a column, one a distinct value [rows]. A row with an empty cell shares
    its noise with no other and is a cluster of its own; but the trunk that others branched from
    (scaling/records/tables.py: `branched_from` holds its `name`) is in their cluster.
    """
    if name == "branched_from" and {name, "name"} <= set(table.columns):
        table = table.assign(branched_from=table[name].where(table[name].notna(), table["name"]))
    label = labels(table, name)
    alone = np.isnan(label)
    label[alone] = len(table) + np.arange(alone.sum())
    return np.unique(label, return_inverse=True)[1]


def _copies(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows that equal an earlier one in every column, what names a run included [rows], and how
    many equal each [rows].
    """
    try:
        copied = table.duplicated().to_numpy()
    except TypeError:  # a column of lists or dicts
        table = table.astype(str)
        copied = table.duplicated().to_numpy()
    counts = np.zeros(len(table), int)
    if copied.any():
        alike = table.groupby(list(table.columns), dropna=False, sort=False).ngroup().to_numpy()
        counts = np.bincount(alike)[alike] - 1
    return copied, counts


def names_of(law: Law, x: str | Mapping[str, str], table: pd.DataFrame) -> dict[str, str]:
    """Law's column -> table's column, where they differ: `x` as in `Options`, and amounts of data
    under the name of the table's unit. Raises UserError for rows of several units.
    """
    if isinstance(x, str) and law.columns == ("x",):
        return {law.columns[0]: x}
    given = {} if isinstance(x, str) else {law: own for law, own in x.items() if law != own}
    return amounts_of(law, table) | given


def read_rows(
    table: pd.DataFrame,
    law: Law,
    x: Mapping[str, str],
    loss: str,
    options: Options,
) -> Rows:
    """The rows of a table that a law can be fitted to, and sentences about those left out. `x` is
    law's column -> table's column; of the options, space, sd and cluster are read.
    """
    sd, cluster = options.sd, options.cluster
    if not len(table):
        raise UserError("the table has no rows")
    flags = []
    copies, counts = _copies(table)
    if copies.any():
        flags.append(
            f"{int(copies.sum())} rows are exact copies of others, in every column, and are left "
            "out"
        )
    shared = [c for c in RUN_COLUMNS if c in table.columns and table[c].duplicated().any()]
    if shared and cluster is None and not law.needs:
        flags.append(
            f"several rows share a {shared[0]}: if they are checkpoints of one run, give "
            f"--cluster={shared[0]}, or the intervals are too narrow"
        )
    needed = law.needs or law.columns
    columns = {
        name: (labels if name in law.labels else numbers)(table, x.get(name, name))
        for name in needed
    }
    losses = numbers(table, loss)
    keep = ~copies
    lost = ~np.isfinite(losses) & keep
    if lost.any():
        flags.append(f"{int(lost.sum())} rows without a finite {loss} are left out")
    keep &= ~lost
    for name, values in columns.items():
        empty = ~np.isfinite(values) & keep
        if empty.any():
            flags.append(f"{int(empty.sum())} rows without a finite {x.get(name, name)} left out")
        keep &= ~empty
        wrong = keep & ((values < 0) if name in (*law.zeros, *law.labels) else (values <= 0))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"column {x.get(name, name)} is {values[row]:g} in row {row + 1} "
                f"({int(wrong.sum())} such rows): {law.name} needs positive values; leave them "
                f"out with --where='{x.get(name, name)}>0'"
            )
    if options.space == "log" and (keep & (losses <= 0)).any():
        raise UserError(
            f"column {loss} has zeros or negative values, which have no logarithm: fit with "
            "--space=linear, or leave those rows out with --where"
        )
    if not keep.any():
        raise UserError(f"no row of the table has a finite {loss} and all of {', '.join(needed)}")
    raw = {k: v[keep] for k, v in columns.items()}
    if (found := _tied(raw)) is not None:
        params, amount = (x.get(name, name) for name in ("params", "tokens"))
        flags.append(
            f"{amount} follow {params} in all rows (as {params}^{found[0]:.3g}, within "
            f"{found[1]:.1%}), so that nothing tells what each of them does: a law of {params} "
            f"alone (--law=power_floor) says as much, and runs of other {amount} a parameter "
            "would tell (scaling.studies.ladder.isoflop)"
        )
    noise = numbers(table, sd)[keep] if sd else None
    if noise is not None and not (np.isfinite(noise) & (noise > 0)).all():
        raise UserError(f"column {sd} must hold positive standard deviations of {loss}")
    label = clusters(table[keep], cluster) if cluster else None
    prepared = law.prepare(raw) if law.prepare else raw
    kept = np.flatnonzero(keep)
    return Rows(
        prepared, raw, losses[keep], noise, label, kept, counts[keep], tuple(flags),
        tied=found is not None,
    )  # fmt: skip


def _tied(raw: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """Where the units of data of all rows follow from their parameters: the power p of tokens ~
    params^p, positive, and by what share a row is off it at most. None: rows differ in both.
    """
    if not {"params", "tokens"} <= set(raw):
        return None
    n, d = (np.log(np.asarray(raw[name], float)) for name in ("params", "tokens"))
    if len(np.unique(n)) < 2:
        return None
    power, at_one = np.polyfit(n, d, 1)
    off = float(np.expm1(np.abs(d - at_one - power * n).max()))
    return (float(power), off) if power > 0 and off < TIED else None


def pooled(table: pd.DataFrame, x: Sequence[str], cluster: str | None) -> tuple[str, ...]:
    """Sentences about runs of ours that a fit takes for repeats of one another and that are not.

    Args:
      table: the rows of a fit; config fields have their dotted names (scaling/records/tables.py).
      x: the columns that the law reads.
      cluster: as in `fit`.
    """
    notes = []
    same = table.groupby(list(x), dropna=False)
    grown = sizes()
    fields = [c for c in identity_fields() if c in table.columns and c not in grown]
    differ = [c for c in fields if same[c].agg(lambda part: max(units.numbered(part))).any()]
    if differ:
        notes.append(
            f"rows of equal {' and '.join(x)} differ in {', '.join(differ)} and are fitted as one "
            f"law: choose some with --where, or fit each with --by={differ[0]}"
        )
    if cluster is None and "branched_from" in table and table["branched_from"].notna().any():
        count = int(table["branched_from"].notna().sum())
        trunks = len(np.unique(clusters(table, "branched_from")))
        way = "give --cluster=branched_from, or the intervals are too narrow"
        if trunks == 1:
            way = "all are of one trunk, so that no interval holds its noise"
        notes.append(f"{count} rows branched off a trunk and share its noise: {way}")
    return tuple(notes)


def identity_fields() -> list[str]:
    """Dotted names of the config fields that say what a run computes, whatever it chooses."""
    found = dict.fromkeys(flatten(to_identity(RunConfig())))
    for group in choices.ROOMS:
        for name in choices.registry(group):
            found |= dict.fromkeys(flatten({group: to_identity(choices.new(group, name))}))
    return list(found)


def sizes() -> set[str]:
    """Config fields by which runs of a study grow or repeat; a law reads columns that follow from
    them.
    """
    found = {"model.width", "model.depth", "optim.warmup_steps", "seed", "data.seed"}
    found |= {f"train.{name}" for name in (*LENGTHS, "batch_size")}
    for name in choices.registry("model"):
        model = choices.new("model", name)
        found |= set(choices.family(model).scaled(model, model.width, model.depth))
    return found


def groups_of(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Index of each row's point [rows]: runs at one point differ in nothing but the seed."""
    flat = [np.asarray(v, float).reshape(len(v), -1) for v in columns.values()]
    return np.unique(np.concatenate(flat, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def check_enough(
    rows: Rows, law: Law, free: Sequence[str], x: Mapping[str, str], loss: str
) -> None:
    """Raises UserError when the rows cannot determine the free parameters."""
    for name, values in rows.raw.items():
        if np.ptp(values) == 0 and name not in (*law.optional, *law.labels):
            raise UserError(
                f"{law.name}: all {len(values)} rows have the same {x.get(name, name)} "
                f"({values[0]:g}); "
                "a law needs several sizes"
            )
    points = int(groups_of(rows.raw).max()) + 1
    if points < len(free):
        raise UserError(
            f"{law.name} has {len(free)} free parameters and the table {points} distinct points; "
            "add runs, fix parameters, or fit a law with fewer"
        )
    if np.ptp(rows.loss) <= 1e-12 * np.abs(rows.loss).max():
        raise UserError(f"all {len(rows.loss)} values of {loss} are equal: there is nothing to fit")
