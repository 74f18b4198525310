"""The page: everything a reader needs to believe or doubt a result, in one file.

Takes what `build.py` gathered; gives HTML with every style, script and image inside, so that it
opens from disk, on a phone, in the dark, years later. The layout is in `page.html.jinja`.
"""

import base64
import datetime
import importlib.resources
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from scaling.errors import DamagedError
from scaling.records import RunDirectory
from scaling.records.status import repeat_command
from scaling.report import style
from scaling.report.axes import COUNTS, SEEDS, done, groups_in, repeated
from scaling.report.figures import Drawn
from scaling.report.findings import Finding
from scaling.report.optimum import HEADS as RATE_HEADS
from scaling.report.optimum import RateFinding
from scaling.units import duration, human, labels

HEADS = {
    "params": "params",
    "tokens": "tokens",
    "unique_tokens": "unique tokens",
    "flops": "FLOPs",
    "loss": "loss (nats)",
    "bits_per_byte": "bits / byte",
    "train_loss": "train loss",
    "seconds": "time",
}


@dataclass(frozen=True)
class Page:
    """What stands on the page."""

    title: str
    question: str  # one sentence, or nothing
    x: str  # main axis
    table: pd.DataFrame
    facts: Mapping[str, Any]  # `scaling.records.tables.about`
    findings: Sequence[Finding]
    rates: RateFinding | None  # of a study over the learning rate
    figures: Sequence[Drawn]
    watched: int  # runs with `train.watch_every`, which `watch.html` shows
    configs: Mapping[str, Mapping[str, Any]]  # run -> dotted field -> value
    records: Mapping[str, Mapping[str, Any]]  # run -> config.json
    begun: Sequence[RunDirectory]
    missing: Sequence[RunDirectory]


@dataclass(frozen=True)
class Entry:
    """One cell of the table: what is shown, and what it is sorted by."""

    text: str
    key: str


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing."""
    template = template_of("page.html.jinja")
    varying, common = _fields(page.configs)
    return template.render(
        page=page,
        rate_heads=RATE_HEADS,
        unfitted=_unfitted(page.findings),
        numbers=_numbers(page),
        repeats=_repeats(page.table),
        trunks=_trunks(page.table),
        figures=[embedded(drawn) for drawn in page.figures],
        columns=_columns(page.table),
        rows=_rows(page.table),
        troubles=_troubles(page),
        healed=_healed(page),
        varying=varying,
        common=common,
        parameters=_parameters(page.findings),
        methods=sorted({f"{f.fit.level:.0%}: {f.fit.method}" for f in page.findings if f.fit}),
        provenance=_provenance(page),
        table_csv=_data_uri(page.table.to_csv(index=False)),
        written=now(),
    )


def now() -> str:
    """The time, for the foot of a page."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def template_of(name: str) -> jinja2.Template:
    """A template of this package; its variables are escaped, and an unknown one is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _template(name: str) -> str:
    return importlib.resources.files("scaling.report").joinpath(name).read_text("utf-8")


def _data_uri(csv: str) -> str:
    return "data:text/csv;base64," + base64.b64encode(csv.encode()).decode()


def embedded(drawn: Drawn, prefix: str = "") -> dict[str, Any]:
    """A figure as a template shows it; `prefix` keeps ids apart where names occur twice."""
    image = style.inline_svg(drawn.svg, prefix=prefix + drawn.name)
    return {
        "name": drawn.name,
        "title": drawn.title,
        "caption": drawn.caption,
        "svg": Markup(image),
        "csv": _data_uri(drawn.data.to_csv(index=False)),
    }


def _unfitted(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """(curves, note) of the curves without a law: one line a note, however many share it."""
    curves: dict[str, list[str]] = {}
    for finding in findings:
        for note in () if finding.fit else finding.notes:
            curves.setdefault(note, []).append(finding.name or "")
    return [(", ".join(filter(None, names)), note) for note, names in curves.items()]


def _numbers(page: Page) -> list[tuple[str, str]]:
    """The few numbers at the head: (number, what it is)."""
    finished = done(page.table)
    total = len(page.table) + len(page.missing)
    out = [(f"{len(finished)} of {total}", "runs done")]
    if len(finished):
        out.append((_span(finished["params"]), "parameters"))
        out.append((_span(finished["tokens"]), "training tokens"))
        out.append((human(finished["flops"].sum()), "FLOPs in all"))
    # The members of a packed group have its whole time, each.
    seconds = (page.table["seconds"] / page.table["members"]).sum()
    if seconds >= 1:
        out.append((duration(seconds), "of training"))
    return out


def _repeats(frame: pd.DataFrame) -> str:
    """What a reader must know of runs that met their tokens more than once; empty: none did."""
    passed = repeated(frame)
    if passed.empty:
        return ""
    return (
        f"{len(passed)} of {len(done(frame))} runs pass over their distinct training tokens more "
        f"than once, up to {passed['epochs'].max():.2g} times: theirs is the loss of repeated data."
    )


def _trunks(frame: pd.DataFrame) -> str:
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


def _span(values: pd.Series) -> str:
    low, high = human(values.min()), human(values.max())
    return low if low == high else f"{low} – {high}"


def _columns(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Columns of the table that are shown: (name, head)."""
    names = [
        "status",
        "width",
        "depth",
        "seed",
        "params",
        "tokens",
        "flops",
        "loss",
        "bits_per_byte",
        "train_loss",
    ]
    if frame["unique_tokens"].nunique() > 1:
        names.insert(names.index("flops"), "unique_tokens")
    if len(repeated(frame)):
        names.insert(names.index("flops"), "epochs")
    names += [c for c in frame if c.startswith("loss/")]
    shown = {"model.width", "model.depth", "data.unique_tokens", "train.steps", *SEEDS}
    names += [c for c in frame if "." in c and "/" not in c and c not in shown]
    names += [c for c in ("attempts", "healed", "spikes") if c in frame and _any(frame[c])]
    names += ["seconds", "fingerprint"]
    heads = {c: HEADS.get(c, c.removeprefix("loss/")) for c in names}
    return [(c, heads[c]) for c in dict.fromkeys(names)]


def _any(column: pd.Series) -> bool:
    """Whether a column says something of any run."""
    return bool((column.notna() & (column != 0)).any())


def _rows(frame: pd.DataFrame) -> list[list[Entry]]:
    names = [name for name, _ in _columns(frame)]
    fields = {name: labels(frame[name]) for name in names if "." in name and "/" not in name}
    return [
        [
            # A config field that is None is off; a run whose config cannot be read has none.
            Entry(fields[name][i], _key(row[name]))
            if name in fields and isinstance(row["fingerprint"], str)
            else _entry(name, row)
            for name in names
        ]
        for i, row in enumerate(frame.to_dict("records"))
    ]


def _key(value: Any) -> str:
    """What a cell is sorted by; nothing where it is empty."""
    return "" if value is None or value != value else str(value)


def _entry(name: str, row: Mapping[Any, Any]) -> Entry:
    value = row[name]
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return Entry("-", "")
    if name == "seconds":
        return Entry(duration(value), repr(value))
    if name in COUNTS:
        return Entry(human(value), repr(value))
    if name == "loss" or name.startswith("loss/"):
        error = row.get(name.replace("loss", "loss_se", 1))
        known = error is not None and not pd.isna(error)
        return Entry(f"{value:.4f} ± {error:.4f}" if known else f"{value:.4f}", repr(value))
    if name in ("bits_per_byte", "train_loss"):
        return Entry(f"{value:.4f}", repr(value))
    return Entry(f"{value:g}" if isinstance(value, float) else str(value), str(value))


def _troubles(page: Page) -> list[dict[str, str]]:
    """Every run that has no result, why, and how to repeat it."""
    command = {run.path.name: repeat_command(run) for run in page.begun}
    command |= {run.path.name: "" for run in page.begun if run.path.name not in page.records}
    out = [
        {
            "name": row["name"],
            "state": row["status"],
            "reason": row["reason"] if isinstance(row["reason"], str) else "",
            "command": command[row["name"]],
        }
        for row in page.table.to_dict("records")
        if row["status"] != "done"
    ]
    for run in page.missing:
        reason = "not begun; the same sweep command trains it"
        out.append({"name": run.path.name, "state": "missing", "reason": reason, "command": ""})
    return out


def _healed(page: Page) -> list[dict[str, Any]]:
    """Runs that did not go through at once: each bad end with its answer, and each spike."""
    out = []
    for run in page.begun:
        try:
            spikes = run.spikes()
        except DamagedError:  # among the runs without a result
            spikes = []
        lines = [
            f"{a['failure']} at step {a['step']}: {a['reason']} → {a['answer']}"
            for a in run.attempts()
        ]
        lines += [
            f"spike: loss {s['loss']:.4g} in step {s['step']} (z = {s['z']:.1f}) → back to step "
            f"{s['back_to']}, {s['skipped']} batches skipped"
            for s in spikes
        ]
        if lines:
            out.append({"name": run.path.name, "lines": lines, "changed": run.changed()})
    return out


def _fields(
    configs: Mapping[str, Mapping[str, Any]],
) -> tuple[list[tuple[str, list[tuple[str, int]]]], list[tuple[str, str]]]:
    """Config fields that differ, with how many runs have each value, and those in common."""
    names = sorted({field for config in configs.values() for field in config})
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


def _parameters(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Rows of the table of fitted parameters: on all points, and without the largest."""
    out = []
    for finding in findings:
        fits = [("all points", finding.fit)]
        if finding.holdout is not None:
            fits.append(("without the largest", finding.holdout.fit))
        for points, fit in fits:
            if fit is None:
                continue
            for name, value in fit.params.items():
                low, high = fit.intervals.get(name, (float("nan"), float("nan")))
                out.append(
                    {
                        "fit": f"{finding.name}: {points}" if finding.name else points,
                        "name": name,
                        "value": f"{value:.4g}",
                        "interval": f"{low:.4g} to {high:.4g}" if low == low else "given",
                        "runs": str(fit.n),
                        "status": fit.status,
                    }
                )
    return out


def _provenance(page: Page) -> list[tuple[str, str]]:
    """(what, text) lines of where the numbers come from."""
    made_by = [record["provenance"] for record in page.records.values()]
    versions: dict[str, set[str]] = {}
    for made in made_by:
        for package, version in made.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    created = sorted(record["created"] for record in page.records.values())
    writer = page.facts["written_by"]
    splits = {record["size"].get("split_by") for record in page.records.values()} - {None}
    lines = [
        ("corpus", _counted(page.facts["corpora"])),
        ("validation split by", " and ".join(sorted(splits))),
        ("code of the runs", _counted(page.facts["commits"]) or "not a git checkout"),
        ("packages", ", ".join(f"{p} {' and '.join(sorted(v))}" for p, v in versions.items())),
        ("devices", _counted(page.facts["devices"])),
        ("runs begun", created[0] if len(created) == 1 else f"{created[0]} to {created[-1]}"),
        ("code of this page", f"{writer['commit'] or '-'}{'+changes' if writer['dirty'] else ''}"),
    ]
    return [(what, text) for what, text in lines if text]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({n} run{'s' if n != 1 else ''})" for name, n in counts.items())
