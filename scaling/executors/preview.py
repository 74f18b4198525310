"""What a researcher reads before and after a sweep, as plain text.

`table` is the dry run: what each run is, what it costs, whether it is done; `summary` says what
came out and how to repeat what failed. What is printed in between: `progress.py`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import pandas as pd
from etils import epath

from scaling.config import RunConfig, run_name, to_dict
from scaling.costs import sizes
from scaling.executors.admission import needed_bytes
from scaling.executors.result import Result
from scaling.records import RunDirectory, timing
from scaling.records.status import ENDED, repeat_command
from scaling.studies import study
from scaling.units import human


def table(
    configs: Sequence[RunConfig],
    workdir: epath.PathLike,
    devices: int | None = None,
    unread: str | None = None,
) -> str:
    """One line a run, and totals; trains nothing.

    `unread`: why `workdir` cannot be read now; then the state of every run is "?".

    Params are all parameters, those without embeddings, and those that a token meets; epochs are
    passes over the distinct tokens, where the corpus is prepared; FLOPs are of training, by the
    closed formula; bytes are an estimate a device (`memory.estimate_bytes`), "-" for a mesh that
    cannot be.
    """
    devices = devices or len(jax.devices())
    statuses: list[dict[str, Any]] = [{"state": "?"} for _ in configs]
    if not unread:
        statuses = [RunDirectory.open(c, workdir).status() for c in configs]
    states = [status.get("state", "to do") for status in statuses]
    spent = [sizes.cost(config) for config in configs]
    epochs = [_epochs(config) for config in configs]
    units = {config.data.unit for config in configs}
    amount = f"{units.pop()}s" if len(units) == 1 else "units"
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
            amount: human(cost.amount),
            **({"epochs": passes} if any(epochs) else {}),
            "steps": config.train.steps,
            "FLOPs": f"{cost.flops:.2e}",
            "batch": f"{config.train.batch_size}x{config.data.units_per_example}",
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
    done = "what is done already is not known" if unread else f"{states.count('done')} done"
    note = f"\nnote: {unread}; the runs that are done there are not trained again" if unread else ""
    return (
        f"{listed}\n\n"
        f"{len(configs)} runs, {done}; {human(sum(c.amount for c in spent))} "
        f"{amount} and {sum(c.flops for c in spent):.2e} FLOPs in all, "
        f"{'at most as many' if unread else f'{left:.2e} FLOPs'} to do; "
        f"directories in {epath.Path(workdir) / 'runs'}{note}"
    )


def _epochs(config: RunConfig) -> str:
    """Passes over the distinct units of data; nothing where nobody has read them."""
    size = study.size(config)
    if not size.get("unique"):
        return ""
    epochs = size["amount"] / size["unique"]
    return f"{epochs:.2g}" if epochs < 100 else f"{epochs:.0f}"


def _bytes(needed: float | None) -> str:
    return "-" if needed is None else human(needed) + "B"


def _mesh(config: RunConfig, devices: int) -> str:
    sizes = to_dict(config.mesh)
    known = math.prod(n for n in sizes.values() if n is not None)
    sizes["data"] = sizes["data"] or max(1, devices // known)
    used = [f"{axis}{n}" for axis, n in sizes.items() if n > 1]
    return "x".join(used) or "1"


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
