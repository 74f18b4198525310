"""The page: everything a reader needs to believe or doubt a result, in one file.

Takes what `build.py` gathered; gives HTML with every style, script and image inside, so that it
opens from disk, on a phone, in the dark, years later. The layout is in `page.html.jinja`.
"""

import base64
import datetime
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from scaling.errors import DamagedError
from scaling.records import RunDirectory
from scaling.records.conventions import main_metric
from scaling.records.status import repeat_command
from scaling.report import looks, style
from scaling.report.axes import done
from scaling.report.explore import embedded_json, explored
from scaling.report.figures import Drawn
from scaling.report.parts import Part, shown
from scaling.report.runs import fields
from scaling.units import duration, human


@dataclass(frozen=True)
class Page:
    """What stands on the page."""

    title: str
    question: str  # one sentence, or nothing
    table: pd.DataFrame
    facts: Mapping[str, Any]  # `scaling.records.tables.about`
    parts: Sequence[Part]  # of the table
    watched: int  # runs with `train.watch_every`, which `watch.html` shows
    configs: Mapping[str, Mapping[str, Any]]  # run -> dotted field -> value
    records: Mapping[str, Mapping[str, Any]]  # run -> config.json
    curves: Mapping[str, pd.DataFrame]  # run -> its curves
    begun: Sequence[RunDirectory]
    missing: Sequence[RunDirectory]


def render(page: Page) -> str:
    """The page as one HTML document that loads nothing."""
    template = template_of("page.html.jinja")
    varying, common = fields(page.configs)
    own, first = [field for field, _ in varying], page.parts[0]
    return template.render(
        page=page,
        numbers=_numbers(page),
        parts=[
            shown(part) | {"figures": [embedded(drawn) for drawn in part.figures]}
            for part in page.parts
        ],
        troubles=_troubles(page),
        healed=_healed(page),
        varying=varying,
        common=common,
        provenance=_provenance(page),
        explored=embedded_json(
            explored(page.table, first.x, first.by, page.curves, own, page.configs)
        ),
        explore_script=Markup(_template("explore.js")),
        command=looks.made_by(),
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


def _numbers(page: Page) -> list[tuple[str, str]]:
    """The few numbers at the head: (number, what it is)."""
    finished = done(page.table)
    total = len(page.table) + len(page.missing)
    out = [(f"{len(finished)} of {total}", "runs done")]
    if len(finished):
        out.append((_span(finished["params"]), "parameters"))
        for unit, rows in finished.groupby("unit"):
            out.append((_span(rows["amount"]), f"training {unit}s"))
        out.append((human(finished["flops"].sum()), "FLOPs in all"))
    # The members of a packed group have its whole time, each.
    seconds = (page.table["seconds"] / page.table["members"]).sum()
    if seconds >= 1:
        out.append((duration(seconds), "of training"))
    return out


def _span(values: pd.Series) -> str:
    low, high = human(values.min()), human(values.max())
    return low if low == high else f"{low} – {high}"


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
        objective = page.configs.get(run.path.name, {}).get("objective.name")
        measure = main_metric(objective).label
        lines = [
            f"{a['failure']} at step {a['step']}: {a['reason']} → {a['answer']}"
            for a in run.attempts()
        ]
        lines += [
            f"spike: {measure} {s['loss']:.4g} in step {s['step']} (z = {s['z']:.1f}) → back to "
            f"step {s['back_to']}, {s['skipped']} batches skipped"
            for s in spikes
        ]
        if lines:
            out.append({"name": run.path.name, "lines": lines, "changed": run.changed()})
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
