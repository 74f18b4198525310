"""Weights & Biases: a run by its fingerprint, in the group of its study; files in the workdir.

`place` "offline" writes files that `wandb sync` uploads; "online" and "" leave that to wandb's own
settings (WANDB_MODE, WANDB_PROJECT, the login).
"""

import os
import pathlib
from typing import Any

from scaling.trackers import About, Rows


class _Session:
    def __init__(self, about: About, mode: Any):
        import wandb

        pathlib.Path(about.folder).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "scaling"),
            id=about.id,
            resume="allow",
            name=about.name,
            group=about.group,
            config=dict(about.config),
            tags=list(about.tags),
            dir=about.folder,
            mode=mode,
            reinit="create_new",  # several runs of a sweep are open at once
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def log(self, rows: Rows) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def close(self, state: str) -> None:
        self._run.finish(exit_code=int(state in ("failed", "diverged")))


def open(about: About, place: str) -> _Session:
    """`place`: "online", "offline", or "" for wandb's own settings."""
    return _Session(about, place or None)
