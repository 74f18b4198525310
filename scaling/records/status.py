"""How far a sweep is: one line a run, live in a terminal, plain in a log.

Takes a workdir and, if it is known, the planned runs; reads `config.json`, `status.json` and the
last losses through `scaling/records/directory.py`, never the training process. Called by `launch.py
status` and by the executors for their last word. No jax in this file.
"""

import collections
import contextlib
import math
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etils import epath
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.config import RunConfig
from scaling.errors import DamagedError
from scaling.place import program
from scaling.records import RunDirectory, find_runs
from scaling.records.conventions import MAIN, main_metric
from scaling.units import duration, human

COLOURS = {
    "done": "green",
    "running": "cyan",
    "stopped": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "damaged": "red",
    "to do": "bright_black",
}
ENDED = ("done", "failed", "diverged")
_TAIL = 65536  # bytes of a file of metrics that are looked through for a loss, from its end


@dataclass(frozen=True)
class Cell:
    """One run of the sweep as it stands."""

    name: str
    state: str  # a key of COLOURS
    step: int
    steps: int
    rate: float | None  # steps a second
    eta: float | None  # seconds
    loss: float | None  # of the newest validation near the end, else the last one known
    flops: float | None  # of the whole run
    mfu: float | None  # model FLOPs utilization of its last steps
    reason: str | None
    command: str  # repeats this run alone; "" where its config cannot be read
    log: str | None = None  # what its process wrote, where that is known
    healed: str | None = None  # its last bad end and what was done about it, and its spikes
    split_by: str | None = None  # what of its corpus went to train and validation
    measure: str = MAIN  # what its objective calls the loss

    @property
    def flops_done(self) -> float | None:
        """FLOPs spent so far, None where the run's size is not known."""
        return None if self.flops is None else self.flops * self.step / max(1, self.steps)


def repeat_command(run: RunDirectory) -> str:
    """The shell command that trains this run alone, from where it stopped."""
    return f"{program()} train --run={shlex.quote(str(run.path))}"


def cells(workdir: epath.PathLike, planned: Iterable[RunConfig] | None = None) -> list[Cell]:
    """The planned runs in their order, or every run under `workdir`, small ones first."""
    if planned is not None:
        return [_cell(RunDirectory.open(config, workdir), config) for config in planned]
    found = [_cell(run) for run in find_runs(workdir)]
    return sorted(found, key=lambda cell: cell.flops or 0.0)


def validation_loss(run: RunDirectory) -> float | None:
    """Of the newest evaluation of the validation set; None: none is near the end of the lines."""
    return run.latest(["val"], _TAIL).get("val", {}).get("loss")


def _cell(run: RunDirectory, config: RunConfig | None = None) -> Cell:
    started = (run.path / "config.json").exists()
    status = run.status() if started else {}
    try:
        record = run.record() if started else {}
        steps = config.train.steps if config else record["config"]["train"]["steps"]
        loss = validation_loss(run) if started else None
        if loss is None and started:
            loss = status.get("loss")
        if loss is None and started:
            loss = run.latest(["train"], _TAIL).get("train", {}).get("loss")
        healed = _healed(run) if started else None
    except DamagedError as error:  # one run's files say nothing of the others
        record, steps, loss, healed = {}, None, None, None
        status = {**status, "state": "damaged", "reason": str(error)}
    chosen = vars(config.objective) if config else record.get("config", {}).get("objective", {})
    return Cell(
        name=run.path.name,
        state=status.get("state", "to do"),
        step=status.get("step", 0),
        steps=status.get("steps") or steps or 0,
        rate=status.get("rate"),
        eta=status.get("eta"),
        loss=loss,
        mfu=status.get("mfu"),
        flops=record.get("size", {}).get("flops"),
        reason=status.get("reason"),
        command=repeat_command(run) if record or not started else "",
        log=status.get("log"),
        healed=healed,
        split_by=record.get("size", {}).get("split_by"),
        measure=main_metric(chosen.get("name")).label,
    )


def _healed(run: RunDirectory) -> str | None:
    """ "2 attempts ended badly, the last by memory: tried again with train.microbatches=2"."""
    attempts, spikes = run.attempts(), len(run.spikes())
    said = []
    if attempts:
        last = attempts[-1]
        many = f"{len(attempts)} attempt{'s' if len(attempts) != 1 else ''}"
        said.append(f"{many} ended badly, the last by {last['failure']}: {last['answer']}")
    if spikes:
        said.append(f"went back on {spikes} spike{'s' if spikes != 1 else ''} of the loss")
    return "; ".join(said) or None


def summary(rows: Sequence[Cell]) -> str:
    """ "12 runs: 9 done, 2 running, 1 failed; 3.2P of 4.1P FLOPs; about 5 min left"."""
    counts = collections.Counter(row.state for row in rows)
    states = ", ".join(f"{counts[state]} {state}" for state in COLOURS if counts[state])
    text = f"{len(rows)} run{'s' if len(rows) != 1 else ''}" + (f": {states}" if states else "")
    known = [row for row in rows if row.flops is not None]
    if known:
        spent = sum(row.flops_done or 0.0 for row in known)
        whole = sum(row.flops or 0.0 for row in known)
        started = " of the runs started" if len(known) < len(rows) else ""
        text += f"; {human(spent)} of {human(whole)} FLOPs{started}"
    if splits := sorted({row.split_by for row in rows if row.split_by}):
        text += f"; validation split by {' and '.join(splits)}"
    etas = [row.eta for row in rows if row.state == "running" and row.eta is not None]
    rates = [row.mfu for row in rows if row.state == "running" and row.mfu is not None]
    text += f"; MFU of running ones {sum(rates) / len(rates):.1%}" if rates else ""
    return text + (f"; running ones end in {duration(max(etas))}" if etas else "")


def _troubles(rows: Sequence[Cell]) -> list[str]:
    lines = []
    for row in rows:
        if row.state in ("failed", "diverged", "stopped", "damaged"):
            reason = row.reason or "no reason recorded"
            lines += [f"{row.state}: {row.name}", f"  {reason}"]
            lines += [f"  {row.command}"] if row.command else []
            lines += [f"  its log: {row.log}"] if row.log else []
        if row.healed:
            lines += [f"healing: {row.name}", f"  {row.healed}"]
    return lines


_LEFT = ("run", "state")  # of the columns, those that begin at the left


def _titles(rows: Sequence[Cell]) -> tuple[str, ...]:
    """Of the columns of the view; the loss as the objectives of the runs call it."""
    measures = " | ".join(dict.fromkeys(row.measure for row in rows))
    return ("run", "state", "step", "rate", "ETA", "MFU", measures, "FLOPs done")


def _texts(row: Cell) -> tuple[str, ...]:
    """One run, as `_titles`."""
    running = row.state == "running"
    return (
        row.name,
        row.state,
        f"{row.step}/{row.steps}",
        f"{row.rate:.3g}/s" if running and row.rate is not None else "-",
        duration(row.eta) if running else "-",
        "-" if row.mfu is None else f"{row.mfu:.1%}",
        "-" if row.loss is None or math.isnan(row.loss) else f"{row.loss:.4f}",
        human(row.flops_done),
    )


def _table(rows: Sequence[Cell]) -> Table:
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _titles(rows):
        out.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    for row in rows:
        name, state, *rest = _texts(row)
        out.add_row(name, Text(state, style=COLOURS[row.state]), *rest)
    return out


def _view(rows: Sequence[Cell], height: int | None = None) -> RenderableType:
    """The view for a terminal; of more runs than fit into `height` lines, those that move or are in
    trouble first.
    """
    if not rows:
        return Text("no runs yet")
    troubles = _troubles(rows)
    shown, hidden = list(rows), ""
    if height is not None and len(rows) + len(troubles) + 6 > height:
        order = ("running", "damaged", "failed", "diverged", "stopped", "to do", "done")
        first = sorted(rows, key=lambda row: order.index(row.state))
        troubles = troubles[: max(0, height // 3)]
        keep = max(1, height - len(troubles) - 7)
        shown = first[:keep]
        counts = collections.Counter(row.state for row in first[keep:])
        hidden = "not shown: " + ", ".join(f"{n} {state}" for state, n in counts.items())
    parts: list[RenderableType] = [_table(shown)]
    if hidden:
        parts.append(Text(hidden, style="bright_black"))
    parts.append(Text(summary(rows)))
    parts += [Text(line, overflow="fold") for line in troubles]
    return Group(*parts)


def status_lines(workdir: epath.PathLike, planned: Iterable[RunConfig] | None = None) -> list[str]:
    """The view as plain lines, as long as they need to be, without colour or trailing blanks."""
    rows = cells(workdir, planned)
    if not rows:
        return ["no runs yet"]
    titles = _titles(rows)
    texts = [titles, *map(_texts, rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for line in texts:
        fields = zip(titles, line, widths, strict=True)
        padded = [t.ljust(w) if name in _LEFT else t.rjust(w) for name, t, w in fields]
        lines.append("  ".join(padded).rstrip())
    return [*lines, "", summary(rows), *_troubles(rows)]


def show(
    workdir: epath.PathLike,
    planned: Iterable[RunConfig] | None = None,
    console: Console | None = None,
) -> None:
    """Prints the view once: in colour in a terminal, plain elsewhere."""
    console = console or Console()
    if console.is_terminal:
        console.print(_view(cells(workdir, planned)))
    else:
        console.file.write("\n".join(status_lines(workdir, planned)) + "\n")


def watch(
    workdir: epath.PathLike,
    planned: Iterable[RunConfig] | None = None,
    every: float = 2.0,
    console: Console | None = None,
) -> None:
    """Shows the view again every `every` seconds until all runs have ended, or Ctrl-C.

    In a terminal in place; elsewhere one summary line whenever it has changed, and the view last.
    """
    console = console or Console()
    plan = None if planned is None else list(planned)
    with contextlib.suppress(KeyboardInterrupt):
        (_watch_live if console.is_terminal else _watch_plain)(workdir, plan, every, console)
    if not console.is_terminal:
        show(workdir, plan, console)


def _watch_live(
    workdir: epath.PathLike, plan: list[RunConfig] | None, every: float, console: Console
) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            rows = cells(workdir, plan)
            live.update(_view(rows, console.height), refresh=True)
            if _all_ended(rows):
                return
            time.sleep(every)


def _watch_plain(
    workdir: epath.PathLike, plan: list[RunConfig] | None, every: float, console: Console
) -> None:
    last = ""
    while not _all_ended(rows := cells(workdir, plan)):
        if (line := summary(rows)) != last:
            console.file.write(line + "\n")
            console.file.flush()
            last = line
        time.sleep(every)


def _all_ended(rows: Sequence[Cell]) -> bool:
    return bool(rows) and all(row.state in ENDED for row in rows)
