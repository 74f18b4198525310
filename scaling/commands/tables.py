"""`launch.py status` and `report`: what the runs of a workdir have come to."""

import sys
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from scaling.commands.command import (
    FLAGS,
    Command,
    experiment_flag,
    no_workdir,
    reachable_workdir,
    workdir_flag,
)
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.config.sweep import Study
    from scaling.report.paper import Paper


def given_study() -> "Study":
    """The study of --experiment."""
    from scaling.laws import LAWS
    from scaling.studies import study

    if FLAGS.experiment is None:
        raise UserError("give --experiment, e.g. --experiment=experiments/quickstart.py")
    plan = study.load_study(FLAGS.experiment)
    if plan.law not in LAWS:
        raise UserError(f'study {plan.name}: law="{plan.law}" is no law{nearest(plan.law, LAWS)}')
    for line in plan.left_out():
        print(line, file=sys.stderr)
    return plan


def write_report(plan: "Study", configs: "list[RunConfig]", paper: "Paper | None" = None) -> None:
    """The report of a study's runs, below the workdir; prints its path."""
    from scaling.records import RunDirectory
    from scaling.report import report
    from scaling.studies import study

    shown = study.shown(plan, configs)
    directories = [RunDirectory.open(config, FLAGS.workdir) for config in shown]
    out = epath.Path(FLAGS.workdir) / "report" / plan.name
    page = report(directories, out=out, study=plan, paper=paper)
    print(f"report: {page}")


def paper_flags() -> None:
    """--figures, --column and --style: of the commands that draw."""
    flags.DEFINE_list("figures", [], "besides those of the page, for a paper: pdf, svg, png")
    flags.DEFINE_string("column", "one", "their width: one column of two, two, or inches")
    flags.DEFINE_string("style", None, "matplotlib's style file, over ours; its size too")


def asked_paper(tables: bool = False) -> "Paper | None":
    """What these flags ask for; None: nothing. Raises UserError for a format that is none."""
    if FLAGS["figures"].present and not FLAGS.figures:
        raise UserError("--figures= names no format; give some of pdf, svg, png")
    if not FLAGS.figures and not tables:
        for name in ("column", "style"):
            if FLAGS[name].present:
                raise UserError(f"--{name} is of figures for a paper; give --figures=pdf too")
        return None
    from scaling.report.looks import FORMATS, paper
    from scaling.report.paper import Paper

    for kind in FLAGS.figures:
        if kind not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(
                f"--figures={kind} is no format{nearest(kind, FORMATS)}; give some of {known}"
            )
    return Paper(tuple(FLAGS.figures), paper(FLAGS.column, FLAGS.style), tables)


def foreseen(plan: "Study", configs: "list[RunConfig]") -> str:
    """What the dry run says of the law of a study; empty where it can be fitted."""
    import pandas as pd

    from scaling.config import flat
    from scaling.report.findings import foreseen as of_table
    from scaling.studies import study

    rows = []
    for config in study.shown(plan, configs):
        size = study.size(config)
        more: dict[str, float | None] = {
            "width": config.model.width,
            "depth": config.model.depth,
            "seed": config.seed,
        }
        if size.get("unique"):
            more["epochs"] = size["amount"] / size["unique"]
        rows.append(flat(config) | size | more | {"objective": config.objective.name})
    return of_table(pd.DataFrame(rows), plan)


def _status_flags() -> None:
    experiment_flag()
    workdir_flag()
    flags.DEFINE_bool("watch", False, "refresh until interrupted")


def _status() -> int:
    from scaling.records.status import show, watch
    from scaling.studies import study

    there = reachable_workdir()
    planned = study.runs(given_study()) if FLAGS.experiment else None
    if not there and planned is None and not FLAGS.watch:
        raise no_workdir()
    (watch if FLAGS.watch else show)(FLAGS.workdir, planned)
    return 0


def _report_flags() -> None:
    experiment_flag()
    workdir_flag()
    paper_flags()
    flags.DEFINE_bool("tables", False, "write points, laws and predictions as LaTeX and Markdown")


def _report() -> int:
    from scaling.report import report
    from scaling.studies import study

    paper = asked_paper(FLAGS.tables)
    plan = given_study() if FLAGS.experiment else None
    if not reachable_workdir():
        raise no_workdir()
    if plan is not None:
        write_report(plan, study.runs(plan), paper)
    else:
        out = epath.Path(FLAGS.workdir) / "report" / "all"
        page = report(FLAGS.workdir, out=out, paper=paper)
        print(f"report: {page}")
    return 0


COMMANDS = {
    "status": Command(
        "the runs of a workdir: state, rate, ETA, failures",
        """Show the runs of a workdir, or of a study (then also those that have not begun).

  python launch.py status
  python launch.py status --experiment=experiments/quickstart.py --watch""",
        _status_flags,
        _status,
    ),
    "report": Command(
        "table, figures and one HTML page of finished runs",
        """Write table.parquet, table.csv, PNG and SVG figures and one self-contained HTML page.

  python launch.py report --experiment=experiments/quickstart.py
  python launch.py report --workdir=out
  python launch.py report --workdir=out --figures=pdf --column=two --tables""",
        _report_flags,
        _report,
    ),
}
