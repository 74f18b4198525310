"""What a researcher reads before, during and after a sweep, as plain text.

`table` is the dry run: what each run is, what it costs, whether it is done. `SweepProgress` prints
a line as each run ends; `summary` says what came out and how to repeat what failed.
"""

import math
import sys
import time
from collections.abc import Sequence

import jax
import pandas as pd
from etils import epath

from scaling import ladder, study, timing
from scaling.config import RunConfig, run_name, to_dict
from scaling.executors.admission import needed_bytes
from scaling.executors.result import Result
from scaling.records import RunDirectory
from scaling.status import ENDED, repeat_command, validation_loss
from scaling.units import duration, human


def table(configs: Sequence[RunConfig], workdir: epath.PathLike, devices: int | None = None) -> str:
    """One line a run, and totals; trains nothing.

    Params are all parameters, those without embeddings, and those that a token meets; epochs are
    passes over the distinct tokens, where the corpus is prepared; FLOPs are of training, by the
    closed formula; bytes are an estimate a device (`memory.estimate_bytes`), "-" for a mesh that
    cannot be.
    """
    devices = devices or len(jax.devices())
    statuses = [RunDirectory.open(c, workdir).status() for c in configs]
    states = [status.get("state", "to do") for status in statuses]
    spent = [ladder.cost(config) for config in configs]
    epochs = [_epochs(config) for config in configs]
    # Runs of one program need the same memory; the estimate traces the step, so once a program.
    programs = [timing.program(config) for config in configs]
    example = dict(zip(programs, configs, strict=True))
    needs = {name: needed_bytes(c, devices) for name, c in example.items()}
    rows = [
        {
            "run": run_name(config),
            "params": human(cost.params),
            "non-emb": human(cost.params_non_embedding),
            "active": human(cost.params_active),
            "tokens": human(cost.tokens),
            **({"epochs": passes} if any(epochs) else {}),
            "steps": config.train.steps,
            "FLOPs": f"{cost.flops:.2e}",
            "batch": f"{config.train.batch_size}x{config.data.seq_len}",
            "mesh": _mesh(config, devices),
            "bytes/device": _bytes(needs[program]),
            "state": state,
        }
        for config, cost, passes, state, program in zip(
            configs, spent, epochs, states, programs, strict=True
        )
    ]
    damaged = [f"damaged: {s['reason']}" for s in statuses if s.get("state") == "damaged"]
    left = sum(c.flops for c, s in zip(spent, states, strict=True) if s not in ENDED)
    listed = "\n".join([pd.DataFrame(rows).to_string(index=False), *damaged])
    return (
        f"{listed}\n\n"
        f"{len(configs)} runs, {states.count('done')} done; {human(sum(c.tokens for c in spent))} "
        f"tokens and {sum(c.flops for c in spent):.2e} FLOPs in all, {left:.2e} FLOPs to do; "
        f"directories in {epath.Path(workdir) / 'runs'}"
    )


def _epochs(config: RunConfig) -> str:
    """Passes over the distinct tokens; nothing where nobody has read the corpus."""
    size = study.size(config)
    if not size.get("unique_tokens"):
        return ""
    epochs = size["tokens"] / size["unique_tokens"]
    return f"{epochs:.2g}" if epochs < 100 else f"{epochs:.0f}"


def _bytes(needed: float | None) -> str:
    return "-" if needed is None else human(needed) + "B"


def _mesh(config: RunConfig, devices: int) -> str:
    sizes = to_dict(config.mesh)
    known = math.prod(n for n in sizes.values() if n is not None)
    sizes["data"] = sizes["data"] or max(1, devices // known)
    used = [f"{axis}{n}" for axis, n in sizes.items() if n > 1]
    return "x".join(used) or "1"


class SweepProgress:
    """A line on stderr as each run ends: how many are left, the share of FLOPs done, the ETA."""

    def __init__(self, configs: Sequence[RunConfig], workdir: epath.PathLike):
        self._workdir, self._count = workdir, len(configs)
        self._flops = {run_name(c): ladder.cost(c).flops for c in configs}
        # A run that was done before this sweep costs no time now.
        self._was_done = {run_name(c) for c in configs if RunDirectory.open(c, workdir).is_done}
        self._ended = len(self._was_done)
        self._before = self._spent = sum(self._flops[name] for name in self._was_done)
        self._total = sum(self._flops.values())
        self._start = time.monotonic()
        before = f"{self._ended} done before, " if self._ended else ""
        todo = f"{before}{len(configs) - self._ended} to do"
        print(f"{len(configs)} runs, {todo}, in {workdir}", file=sys.stderr, flush=True)

    def ended(self, result: Result) -> None:
        """One run more has ended."""
        name = run_name(result.config)
        if name in self._was_done:
            return
        self._ended += 1
        self._spent += self._flops[name]
        seconds, share = time.monotonic() - self._start, self._spent / self._total
        rate = (self._spent - self._before) / max(seconds, 1e-9)
        eta = (self._total - self._spent) / rate if rate else math.inf
        what = result.reason or ""
        if result.status == "done":
            loss = validation_loss(RunDirectory.open(result.config, self._workdir))
            what = "" if loss is None else f"validation loss {loss:.4f}"
        print(
            f"[{self._ended}/{self._count}] {result.status:8s} {name}  {what}  "
            f"({share:.0%} of FLOPs in {duration(seconds)}, {duration(eta)} left)",
            file=sys.stderr,
            flush=True,
        )


def summary(results: Sequence[Result], workdir: epath.PathLike) -> str:
    """Counts by state, and for each run that is not done why, and the command that repeats it."""
    states: dict[str, int] = {}
    for result in results:
        states[result.status] = states.get(result.status, 0) + 1
    lines = [", ".join(f"{count} {state}" for state, count in sorted(states.items()))]
    for result in results:
        if result.status not in ("done", "pending"):
            lines.append(f"{result.status}: {run_name(result.config)}: {result.reason}")
            lines.append(f"  {repeat_command(RunDirectory.open(result.config, workdir))}")
    return "\n".join(lines)
