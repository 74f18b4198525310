"""The run that another one begins with, or is taught by: where its directory is, what was spent on
it, and what it reached.

Called by `scaling/train/begins.py`, which takes its parameters, and by the table of runs. No jax in
this file.
"""

import dataclasses
from typing import Any

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


def amount_before(config: RunConfig, runs: epath.Path) -> float | None:
    """Units that the runs before a resolved one were trained on: the one that it begins with, the
    one that that began with, and so on; 0 for a run that begins from nothing. None: not known.
    """
    total, at = 0.0, config
    while at.begins.run is not None:
        try:
            found = find(at, runs)
            record: Any = found.record() if found is not None else {"size": {}}
        except UserError:
            return None
        if found is None or record["size"].get("amount") is None:
            return None
        total += record["size"]["amount"]
        at, runs = found.config(record), found.path.parent
    return total


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
