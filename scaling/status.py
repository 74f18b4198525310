"""How far a sweep is: one line a run, live in a terminal, plain in a log.

Takes a workdir and, if it is known, the planned runs; reads `config.json`, `status.json` and the
last losses through `scaling/records.py`, never the training process. Called by `launch.py status`
and by the executors for their last word. No jax in this file.
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
from scaling.records import RunDirectory, find_runs
from scaling.units import duration, human

COLOURS = {
    "done": "green",
    "running": "cyan",
    "stopped": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "to do": "bright_black",
}
ENDED = ("done", "failed", "diverged")


@dataclass(frozen=True)
class Cell:
    """One run of the sweep as it stands."""

    name: str
    state: str  # a key of COLOURS
    step: int
    steps: int
    rate: float | None  # steps a second
    eta: float | None  # seconds
    loss: float | None  # nats: validation once there is one, else the last one known
    flops: float | None  # of the whole run
    reason: str | None
    command: str  # repeats this run alone
    log: str | None = None  # what its process wrote, where that is known
    healed: str | None = None  # its last bad end and what was done about it, and its spikes

    @property
    def flops_done(self) -> float | None:
        """FLOPs spent so far, None where the run's size is not known."""
        return None if self.flops is None else self.flops * self.step / max(1, self.steps)


def repeat_command(run: RunDirectory) -> str:
    """The shell command that trains this run alone, from where it stopped."""
    return f"python launch.py train --run={shlex.quote(str(run.path))}"


def cells(workdir: epath.PathLike, planned: Iterable[RunConfig] | None = None) -> list[Cell]:
    """The planned runs in their order, or every run under `workdir`, small ones first."""
    if planned is not None:
        return [_cell(RunDirectory.open(config, workdir), config) for config in planned]
    found = [_cell(run, run.config()) for run in find_runs(workdir)]
    return sorted(found, key=lambda cell: cell.flops or 0.0)


def _cell(run: RunDirectory, config: RunConfig) -> Cell:
    started = (run.path / "config.json").exists()
    status = run.status() if started else {}
    losses = {line["split"]: line["loss"] for line in run.metrics()} if started else {}
    flops = run.record()["size"].get("flops") if started else None
    return Cell(
        name=run.path.name,
        state=status.get("state", "to do"),
        step=status.get("step", 0),
        steps=status.get("steps") or config.train.steps or 0,
        rate=status.get("rate"),
        eta=status.get("eta"),
        loss=losses.get("val", status.get("loss", losses.get("train"))),
        flops=flops,
        reason=status.get("reason"),
        command=repeat_command(run),
        log=status.get("log"),
        healed=_healed(run) if started else None,
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
    etas = [row.eta for row in rows if row.state == "running" and row.eta is not None]
    return text + (f"; running ones end in {duration(max(etas))}" if etas else "")


def _troubles(rows: Sequence[Cell]) -> list[str]:
    lines = []
    for row in rows:
        if row.state in ("failed", "diverged", "stopped"):
            reason = row.reason or "no reason recorded"
            lines += [f"{row.state}: {row.name}", f"  {reason}", f"  {row.command}"]
            lines += [f"  its log: {row.log}"] if row.log else []
        if row.healed:
            lines += [f"healing: {row.name}", f"  {row.healed}"]
    return lines


def _table(rows: Sequence[Cell], plain: bool) -> Table:
    out = Table(box=None if plain else box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "state", "step", "rate", "ETA", "loss", "FLOPs done"):
        side = "left" if name in ("run", "state") else "right"
        out.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        running = row.state == "running"
        loss = "-" if row.loss is None or math.isnan(row.loss) else f"{row.loss:.4f}"
        out.add_row(
            row.name,
            Text(row.state, style=COLOURS[row.state]),
            f"{row.step}/{row.steps}",
            f"{row.rate:.3g}/s" if running and row.rate is not None else "-",
            duration(row.eta) if running else "-",
            loss,
            human(row.flops_done),
        )
    return out


def _view(rows: Sequence[Cell]) -> RenderableType:
    if not rows:
        return Text("no runs yet")
    parts: list[RenderableType] = [_table(rows, plain=False), Text(summary(rows))]
    parts += [Text(line, overflow="fold") for line in _troubles(rows)]
    return Group(*parts)


def status_lines(workdir: epath.PathLike, planned: Iterable[RunConfig] | None = None) -> list[str]:
    """The view as plain lines, as long as they need to be, without colour or trailing blanks."""
    rows = cells(workdir, planned)
    if not rows:
        return ["no runs yet"]
    console = Console(width=1000, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(_table(rows, plain=True))
    lines = [line.rstrip() for line in capture.get().splitlines()]
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
            live.update(_view(rows), refresh=True)
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
