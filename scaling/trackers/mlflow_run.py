"""MLflow: a run with its fingerprint as a tag, in the experiment of its study.

`place` is a tracking URI; "": files in the workdir, which `mlflow ui --backend-store-uri` shows.
"""

import os
import pathlib
import time
from typing import Any

from scaling.trackers import About, Rows

_ENDS = {"done": "FINISHED", "failed": "FAILED", "diverged": "FAILED"}
_METRICS, _PARAMS, _LENGTH = 1000, 100, 500  # a call, and letters of a value, that a server takes


class _Session:
    def __init__(self, client: Any, about: About):
        from mlflow.entities import Param

        self._client = client
        group = about.group or "scaling"
        found = client.get_experiment_by_name(group)
        experiment = client.create_experiment(group) if found is None else found.experiment_id
        runs = client.search_runs([experiment], f"tags.fingerprint = '{about.id}'")
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        tags = {"fingerprint": about.id} | {f"tag.{tag}": "1" for tag in about.tags}
        self._id = client.create_run(experiment, run_name=about.name, tags=tags).info.run_id
        params = [Param(name, str(value)[:_LENGTH]) for name, value in about.config.items()]
        for first in range(0, len(params), _PARAMS):
            client.log_batch(self._id, params=params[first : first + _PARAMS])

    def log(self, rows: Rows) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, v, now, step) for step, row in rows for name, v in row.items()]
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _METRICS])

    def close(self, state: str) -> None:
        self._client.set_tag(self._id, "state", state)
        self._client.set_terminated(self._id, _ENDS.get(state, "KILLED"))


def open(about: About, place: str) -> _Session:
    """`place`: a tracking URI; "": the workdir."""
    from mlflow.tracking import MlflowClient

    if not place:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it asks to be asked for
        place = pathlib.Path(about.folder).absolute().as_uri()
    return _Session(MlflowClient(tracking_uri=place), about)
