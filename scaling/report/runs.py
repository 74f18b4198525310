"""The table of runs and of their configs, as the page shows them.

Takes the table of runs of one unit and one objective, or configs; gives titles, cells and
sentences. Called by `page.py`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scaling.config import LENGTHS
from scaling.records.conventions import MAIN, of_pass
from scaling.report.axes import SEEDS, done, groups_in, repeated
from scaling.report.words import Words, measured, words_of
from scaling.units import duration, human, labels

_TITLES = {"flops": "FLOPs", "seconds": "time"}
_LEAST = ("status", "width", "depth", "seed", "params")  # columns that every table has first


@dataclass(frozen=True)
class Entry:
    """One cell of the table: what is shown, and what it is sorted by."""

    text: str
    key: str


def columns(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Columns of the table that are shown: (name, head)."""
    words = words_of(frame)
    names = [*_LEAST, words.amount]
    names += [words.unique] if frame[words.unique].nunique() > 1 else []
    names += ["epochs"] if len(repeated(frame)) else []
    metrics = [c for c in words.metrics if c in frame and (c == MAIN or _any(frame[c]))]
    names += ["flops", *metrics, "train_loss"]
    names += [c for c in frame if c.startswith("loss/") or of_pass(c)]
    shown = {"model.width", "model.depth", "train.steps", *SEEDS}
    own = [c for c in frame if "." in c and "/" not in c and c not in shown]
    names += [c for c in own if not c.startswith("data.unique_")]
    names += [c for c in ("attempts", "healed", "spikes") if c in frame and _any(frame[c])]
    names += ["seconds", "fingerprint"]
    return [(c, _head(c, words)) for c in dict.fromkeys(names)]


def _head(column: str, words: Words) -> str:
    if column in words.metrics:
        return measured(words.metrics[column])
    if column == "train_loss":
        return f"train {words.main.label}"
    if of := of_pass(column):
        return f"{measured(of[0])} ({of[1]})"
    plain = {words.amount: words.amount, words.unique: f"unique {words.amount}"}
    return plain.get(column) or _TITLES.get(column, column.removeprefix("loss/"))


def _any(column: pd.Series) -> bool:
    """Whether a column says something of any run."""
    return bool((column.notna() & (column != 0)).any())


def rows(frame: pd.DataFrame) -> list[list[Entry]]:
    """The cells of every run, as `columns`."""
    names, words = [name for name, _ in columns(frame)], words_of(frame)
    fields = {name: labels(frame[name]) for name in names if "." in name and "/" not in name}
    return [
        [
            # A config field that is None is off; a run whose config cannot be read has none.
            Entry(fields[name][i], _key(row[name]))
            if name in fields and isinstance(row["fingerprint"], str)
            else _entry(name, row, words)
            for name in names
        ]
        for i, row in enumerate(frame.to_dict("records"))
    ]


def _key(value: Any) -> str:
    """What a cell is sorted by; nothing where it is empty."""
    return "" if value is None or value != value else str(value)


def _entry(name: str, row: Mapping[Any, Any], words: Words) -> Entry:
    value = row[name]
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return Entry("-", "")
    if name == "seconds":
        return Entry(duration(value), repr(value))
    if name in words.counts:
        return Entry(human(value), repr(value))
    metric, _, of_set = name.partition("/")
    if metric in words.metrics or name == "train_loss" or of_pass(name):
        error = row.get(f"{metric}_se/{of_set}".rstrip("/"))
        known = error is not None and not pd.isna(error)
        return Entry(f"{value:.4f} ± {error:.4f}" if known else f"{value:.4f}", repr(value))
    return Entry(f"{value:g}" if isinstance(value, float) else str(value), str(value))


def repeats(frame: pd.DataFrame) -> str:
    """What a reader must know of runs that met their data more than once; empty: none did."""
    passed = repeated(frame)
    if passed.empty:
        return ""
    words = words_of(frame)
    return (
        f"{len(passed)} of {len(done(frame))} runs pass over their distinct training "
        f"{words.amount} more than once, up to {passed['epochs'].max():.2g} times: theirs is the "
        f"{words.main.label} of repeated data."
    )


def trunks(frame: pd.DataFrame) -> str:
    """What a reader must know of runs that share their first steps; empty: none do."""
    branches = done(frame)[done(frame)["branched_from"].notna()]
    if branches.empty:
        return ""
    trunks = branches["branched_from"].nunique()
    return (
        f"{len(branches)} of {len(done(frame))} runs branch off {trunks} "
        f"trunk{'s' if trunks > 1 else ''} (column branched_from): runs of one trunk share its "
        "first steps, so their losses are not independent, as the intervals here take them to be: "
        "a law's may be too narrow. launch.py fit --cluster=branched_from resamples whole trunks."
    )


def fields(
    configs: Mapping[str, Mapping[str, Any]],
) -> tuple[list[tuple[str, list[tuple[str, int]]]], list[tuple[str, str]]]:
    """Config fields that differ, with how many runs have each value, and those in common; without
    the lengths that resolving has turned into steps.
    """
    every = {field for config in configs.values() for field in config}
    lengths = {f"train.{name}" for name in LENGTHS} - {"train.steps"}
    names = sorted(every - lengths)
    varying, common = [], []
    for field in names:
        values = pd.Series([config.get(field) for config in configs.values()], dtype=object)
        places, texts = groups_in(values), labels(values)
        counts = Counter(zip(places, texts, strict=True))
        if len(counts) == 1:
            common.append((field, texts[0]))
        else:
            varying.append((field, [(text, n) for (_, text), n in sorted(counts.items())]))
    return varying, common
