"""What a researcher reads before, during and after a sweep, as plain text.

`table` is the dry run: what each run is, what it costs, whether it is done. `SweepProgress` prints
a line as each run ends; `summary` says what came out and how to repeat what failed.
"""

import math
import sys
import time
from collections.abc import Sequence

import jax
from etils import epath

from scaling import costs, ladder
from scaling.config import RunConfig, run_name, to_dict
from scaling.executors.result import Result
from scaling.records import RunDirectory


def table(configs: Sequence[RunConfig], workdir: epath.PathLike, devices: int | None = None) -> str:
    """One line a run, and totals; trains nothing.

    Params are all parameters, then those without embeddings; FLOPs are of training, by the closed
    formula; bytes are an estimate a device (`costs.estimate_bytes`).
    """
    devices = devices or len(jax.devices())
    head = [
        "run",
        "params",
        "non-emb",
        "tokens",
        "steps",
        "FLOPs",
        "batch",
        "mesh",
        "bytes/device",
        "state",
    ]
    rows, totals, left = [], [0.0, 0.0], 0.0
    for config in configs:
        size, steps = ladder.size(config), config.train.steps or 0
        tokens = steps * config.train.batch_size * config.data.seq_len
        flops = tokens * size.flops_per_token
        state = RunDirectory.open(config, workdir).status().get("state", "to do")
        totals = [totals[0] + tokens, totals[1] + flops]
        left += 0 if state in ("done", "diverged") else flops
        rows.append(
            [
                run_name(config),
                _count(size.params),
                _count(size.params_non_embedding),
                _count(tokens),
                str(steps),
                f"{flops:.2e}",
                f"{config.train.batch_size}x{config.data.seq_len}",
                _mesh(config, devices),
                _bytes(costs.estimate_bytes(config, devices).total),
                state,
            ]
        )
    done = sum(row[-1] == "done" for row in rows)
    end = ["total", "", "", _count(totals[0]), "", f"{totals[1]:.2e}", "", "", "", f"{done} done"]
    widths = [max(len(r[i]) for r in [head, *rows, end]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        name, *numbers, state = cells
        middle = [c.rjust(w) for c, w in zip(numbers, widths[1:-1], strict=True)]
        return "  ".join([name.ljust(widths[0]), *middle, state]).rstrip()

    rule = "-" * (sum(widths) + 2 * len(widths))
    text = [line(head), rule, *map(line, rows), rule, line(end)]
    return "\n".join([*text, f"{len(rows)} runs, {left:.2e} FLOPs to do; directories in {workdir}"])


def _mesh(config: RunConfig, devices: int) -> str:
    sizes = to_dict(config.mesh)
    known = math.prod(n for n in sizes.values() if n is not None)
    sizes["data"] = sizes["data"] or max(1, devices // known)
    used = [f"{axis}{n}" for axis, n in sizes.items() if n > 1]
    return "x".join(used) or "1"


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.4g}{unit}"
        number /= 1000
    return f"{number:.4g}P"


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"


class SweepProgress:
    """A line on stderr as each run ends: how many are left, the share of FLOPs done, the ETA."""

    def __init__(self, configs: Sequence[RunConfig], workdir: epath.PathLike):
        self._workdir, self._count, self._ended = workdir, len(configs), 0
        self._flops = {run_name(c): ladder.flops(c) for c in configs}
        # A run that was done before this sweep costs no time now.
        self._spent = sum(
            ladder.flops(c)
            for c in configs
            if RunDirectory.open(c, workdir).status().get("state") == "done"
        )
        self._before, self._total = self._spent, sum(self._flops.values())
        self._was_done = {run_name(c) for c in configs if RunDirectory.open(c, workdir).is_done}
        self._start = time.monotonic()
        todo = len(configs) - len(self._was_done)
        print(f"{len(configs)} runs, {todo} to do, in {workdir}", file=sys.stderr, flush=True)

    def ended(self, result: Result) -> None:
        """One run more has ended."""
        self._ended += 1
        name = run_name(result.config)
        if name in self._was_done:
            return
        self._spent += self._flops[name]
        seconds, share = time.monotonic() - self._start, self._spent / self._total
        rate = (self._spent - self._before) / max(seconds, 1e-9)
        eta = (self._total - self._spent) / rate if rate else math.inf
        loss = RunDirectory.open(result.config, self._workdir).status().get("loss")
        what = f"train loss {loss:.4f}" if result.status == "done" and loss else result.reason or ""
        print(
            f"[{self._ended}/{self._count}] {result.status:8s} {name}  {what}  "
            f"({share:.0%} of FLOPs, {seconds:.0f} s, eta {eta:.0f} s)",
            file=sys.stderr,
            flush=True,
        )


def repeat_command(config: RunConfig, workdir: epath.PathLike) -> str:
    """The command that trains this run alone, from its stored config."""
    path = RunDirectory.open(config, workdir).path / "config.json"
    return f"python launch.py train --from={path} --workdir={workdir}"


def summary(results: Sequence[Result], workdir: epath.PathLike) -> str:
    """Counts by state, and for each run that is not done why, and the command that repeats it."""
    states: dict[str, int] = {}
    for result in results:
        states[result.status] = states.get(result.status, 0) + 1
    lines = [", ".join(f"{count} {state}" for state, count in sorted(states.items()))]
    for result in results:
        if result.status not in ("done", "pending"):
            lines.append(f"{result.status}: {run_name(result.config)}: {result.reason}")
            lines.append(f"  {repeat_command(result.config, workdir)}")
    return "\n".join(lines)
