"""trackio: a run by its name, in the group of its study; its database in the workdir.

`place` is a space of the hub to which it is sent; "": none, and TRACKIO_DIR=<workdir>/trackers/
trackio trackio show --project scaling looks at it.
"""

import os

from scaling.trackers import About, Rows


class _Session:
    def __init__(self, about: About, space: str | None):
        os.environ.setdefault("TRACKIO_DIR", os.path.abspath(about.folder))
        import trackio  # reads where to write as it is imported

        self._run = trackio.init(
            project="scaling",
            name=about.name,
            group=about.group,
            config=dict(about.config),
            resume="allow",
            space_id=space,
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, rows: Rows) -> None:
        for step, values in rows:
            self._run.log(dict(values), step=step)

    def close(self, state: str) -> None:
        self._run.finish()


def open(about: About, place: str) -> _Session:
    """`place`: a space, "user/name"; "": this machine alone."""
    return _Session(about, place or None)
