"""The run that another one begins with, or is taught by: where its directory is, what was spent on
it, and what it reached.

Called by `scaling/train/begins.py`, which takes its parameters, and by the table of runs
(`tasks.py`). No jax in this file.
"""

import dataclasses

from etils import epath

from scaling.config import BeginsConfig, DistillConfig, RunConfig, fingerprint
from scaling.errors import UserError
from scaling.records.directory import RunDirectory


def find(config: RunConfig, runs: epath.Path | None) -> RunDirectory | None:
    """The directory of the run that a resolved one begins with: in the folder `runs`, or where
    `begins.folder` says; None where there is none.
    """
    wanted = config.begins.run
    beside = [] if runs is None else sorted(runs.glob(f"*-{wanted}"))
    given = [] if config.begins.folder is None else [epath.Path(config.begins.folder)]
    for path in (*beside, *given):
        if (path / "config.json").exists():
            found = RunDirectory(path)
            if found.record()["fingerprint"] == wanted:
                return found
    return None


def before(config: RunConfig, runs: epath.Path) -> list[RunDirectory] | None:
    """The run that a resolved one begins with, the one that that began with, and so on. None: one
    of them is not known.
    """
    found: list[RunDirectory] = []
    while config.begins.run is not None:
        try:
            one = find(config, runs)
            if one is None:
                return None
            config = one.config()
        except UserError:
            return None
        found.append(one)
        runs = one.path.parent
    return found


def amount_before(earlier: list[RunDirectory] | None) -> float | None:
    """Units that the runs before one (`before`) were trained on; 0 for a run that begins from
    nothing. None: not known.
    """
    amounts = [] if earlier is None else [run.record()["size"].get("amount") for run in earlier]
    return None if earlier is None or None in amounts else float(sum(amounts))


def teacher_loss(config: RunConfig, runs: epath.Path) -> float | None:
    """Of a distilled run, on its teacher's own validation set; None of others, or not known."""
    if not config.distill.weight:
        return None
    try:
        found = find(config, runs)
        return None if found is None else found.latest(["val"]).get("val", {}).get("loss")
    except UserError:
        return None


def untaught(config: RunConfig) -> str | None:
    """The fingerprint of a distilled run without its teacher; None of others."""
    if not config.distill.weight:
        return None
    begins = config.begins if config.distill.begin else BeginsConfig()
    return fingerprint(dataclasses.replace(config, distill=DistillConfig(), begins=begins))
