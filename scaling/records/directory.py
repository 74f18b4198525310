"""The run directory: the only place where the results of a run are kept.

`RunDirectory` writes `config.json` (before step 0, and again where a later start differs; what is
in it: `scaling/records/starts.py`), `metrics.jsonl` (one JSON object a line) and `status.json`; the
trainer and the executors call it. `find_runs` gives those of a workdir; `scaling/records/tables.py`
makes one table of many. Every file is whole after a kill at any moment; what something else has
damaged makes the state "damaged" (`scaling/records/run_files.py`). No jax in this file.
"""

import contextlib
import datetime
import functools
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from etils import epath

from scaling import files
from scaling.config import RunConfig, fingerprint, from_dict, run_name
from scaling.errors import DamagedError, DiskFullError, UserError
from scaling.records import leases, run_files, starts, strict_json

State = Literal["running", "done", "failed", "diverged", "stopped"]
# Fields of status.json that stay when a later write does not give them again.
KEPT = ("step", "steps", "loss", "started", "seconds", "log", "joules", "joules_by")
# Set by an executor whose processes write to a file: which one. It goes into status.json.
LOG = "SCALING_LOG"
_TAIL = 4096  # bytes of a file of metrics that are read first, from its end
_END = 65536  # bytes from its end in which the last evaluations stand


@functools.cache
def _token(pid: int) -> str:
    """Tells this process from every other one: in a container a pid comes again at each restart.

    `pid`: its own, so that a fork draws another.
    """
    return f"{pid}-{secrets.token_hex(8)}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class RunDirectory:
    """One run's directory, `<workdir>/runs/<run_name>/`, local or on an object store.

    Holds no state of its own: two objects on the same path see the same run. One process writes at
    a time, inside `lock()`; any number may read at any moment.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @classmethod
    def open(cls, config: RunConfig, workdir: epath.PathLike) -> "RunDirectory":
        """The directory of a resolved config. Touches no file."""
        return cls(epath.Path(workdir) / "runs" / run_name(config))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Exclusive use of this directory, made if it is not there.

        Released by the kernel when the process ends, SIGKILL included; on an object store, after a
        kill, a minute later (`leases.py`). Raises BusyError naming the directory and the process
        that has it.
        """
        files.make_directory(self.path)
        if files.is_local(self.path) and (self.path / "lock").is_dir():
            run_files.set_aside(self.path / "lock")
        held = files.exclusive if files.is_local(self.path) else leases.leased
        with held(self.path / "lock"):
            files.drop_leftovers(self.path)
            yield

    # ---- config.json

    def start(
        self,
        config: RunConfig,
        provenance: Mapping[str, Any],
        size: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes `config.json` before step 0; at a restart checks that it is the same run, and puts
        down how it is executed, and where, if that is another way than before. The way before is
        kept under `starts`. One that cannot be read is set aside.

        Args:
          config: resolved.
          provenance: `provenance()` and the devices. Without devices it is of a run that is not
            begun (refused, say), and a start that has some stays.
          size: counts for the table: params, params_non_embedding, params_active,
            flops_per_token, tokens, flops, unique_tokens; and split_by, what went to the corpus's
            splits (`study.size`).

        Raises UserError if the directory holds another run, or cannot be written.
        """
        ours, now = fingerprint(config), _now()
        made_by = json.loads(strict_json.encode(provenance))
        stored = self._or_set_aside("config.json")
        if stored is not None:
            if {stored["fingerprint"], fingerprint(self.config(stored))} != {ours}:
                raise UserError(
                    f"{self.path}/config.json is of another run ({stored['fingerprint']}, not "
                    f"{ours}) or was edited; move the directory away"
                )
            # What is only planned takes the place of no start.
            if "device_kind" in made_by or "device_kind" not in stored["provenance"]:
                self._write_config(starts.again(stored, config, made_by, now))
            return
        files.make_directory(self.path)
        first = {"fingerprint": ours, "created": now, "size": dict(size or {})}
        self._write_config(first | starts.begun(config, made_by, now))

    def went_on(self, step: int) -> None:
        """Says in `config.json` that the start which was written last trains from `step` on.

        Called when the later lines of earlier starts have been dropped (`truncate`).
        """
        self._write_config(starts.gone_on(self._read_config(), step))

    def _write_config(self, record: Mapping[str, Any] | None) -> None:
        """None: it stays as it is."""
        if record is not None:
            files.write_atomic(self.path / "config.json", strict_json.encode(record, indent=2))

    def _read_config(self) -> dict[str, Any]:
        record = run_files.read_object(self.path / "config.json")
        if record is None:
            raise UserError(f"{self.path}/config.json is missing: the run was never started")
        return record

    def config(self, record: Mapping[str, Any] | None = None) -> RunConfig:
        """The resolved config, equal to the one that was started; of `record()`, if it is given."""
        return from_dict((record or self._read_config())["config"])

    def record(self) -> dict[str, Any]:
        """`config.json` as it is: fingerprint, created, size, and of the last start provenance,
        config and start (time, step); those before it in starts.
        """
        return self._read_config()

    def starts(self, record: Mapping[str, Any] | None = None) -> list[starts.Start]:
        """Every start that differed from the one before, oldest first; of `record()`, if given."""
        return starts.starts_of(record or self._read_config())

    # ---- metrics.jsonl

    def append(self, *lines: Mapping[str, Any]) -> None:
        """One line for each mapping, at the end of `metrics.jsonl`, out of this process at return.

        NaN and the infinities are stored as the strings "NaN", "Infinity" and "-Infinity", so that
        any JSON reader can read the file; `metrics` turns them back. Append the lines up to a step
        before the checkpoint of that step is saved: then a resumed run misses none.
        """
        files.append(
            self.path / "metrics.jsonl", b"".join(strict_json.encode(line) for line in lines)
        )

    def truncate(self, step: int) -> None:
        """Drops, at once, every line later than `step`, and a last line that a kill tore.

        Called before a run goes on from the checkpoint of `step` (-1: from nothing). What stays is
        kept byte for byte, so the file grows on to what an uninterrupted run writes: the dropped
        lines are computed again. A file with a damaged line is set aside first.
        """
        for path in (self.path / name for name in ("metrics.jsonl", "fingerprints.jsonl")):
            run_files.mend_lines(path)
            if path.exists():
                lines = run_files.read_lines(path)
                new = b"".join(text + b"\n" for text, line in lines if line["step"] <= step)
                if new != path.read_bytes():
                    files.write_atomic(path, new)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` so far, without one that is still being written."""
        return self._read_lines("metrics.jsonl")

    def intact(self) -> tuple[list[dict[str, Any]], str | None]:
        """The lines of `metrics.jsonl` that can be read, and which cannot: None, or a sentence."""
        path = self.path / "metrics.jsonl"
        try:
            lines = list(run_files.tried(path.name, run_files.read(path) or b""))
        except DamagedError as error:
            return [], str(error)
        bad = [(n, line) for n, _, line in lines if isinstance(line, ValueError)]
        text = str(run_files.damaged_line(path, *bad[0])) if bad else None
        return [line for _, _, line in lines if not isinstance(line, ValueError)], text

    def latest(self, splits: Iterable[str], most: float = math.inf) -> dict[str, dict[str, Any]]:
        """The last line of each of these splits, where there is one; without reading the whole file
        when they stand near its end.

        `most`: bytes from the end beyond which none is looked for.
        """
        path, wanted, size = self.path / "metrics.jsonl", set(splits), _TAIL
        if not path.exists():
            return {}
        if files.is_local(path) and path.is_dir():
            raise run_files.damaged(path, "is a directory")
        while True:
            content = files.tail(path, size)
            whole = len(content) != size  # else its first line may be a part of one
            found: dict[str, dict[str, Any]] = {}
            lines = content.split(b"\n")
            for text in reversed(lines if whole else lines[1:]):
                if wanted <= found.keys():
                    return found
                try:
                    line = run_files.decode(path.name, text) if text else None
                except ValueError:
                    if text is not lines[-1]:  # damaged, not only half written: `metrics` says it
                        self.metrics()
                    continue
                if line is not None and line["split"] in wanted:
                    found.setdefault(line["split"], line)
            if whole or size >= most:
                return found
            size = int(min(8 * size, most))

    def _read_lines(self, name: str) -> list[dict[str, Any]]:
        return [line for _, line in run_files.read_lines(self.path / name)]

    # ---- branch.json

    def write_branch(self, trunk: str, step: int) -> None:
        """Says that the first `step` updates are another run's, `trunk` its directory's name."""
        files.write_atomic(
            self.path / "branch.json", strict_json.encode({"trunk": trunk, "step": step})
        )

    def branch(self) -> dict[str, Any]:
        """What `write_branch` wrote: trunk, step; {} for a run that is all its own."""
        return run_files.read_object(self.path / "branch.json") or {}

    # ---- samples.json

    def write_samples(self, record: Mapping[str, Any]) -> None:
        """How far the run's samples are from its data (`train/samples.py`): `step`, `judge`,
        `examples`, the distances `trained`, `untrained`, `real`, and `right` of a conditional
        model, or None.
        """
        files.write_atomic(self.path / "samples.json", strict_json.encode(record, indent=2))

    def samples(self) -> dict[str, Any]:
        """What `write_samples` wrote; {} for a run that nobody judged."""
        return run_files.read_object(self.path / "samples.json") or {}

    # ---- fingerprints.jsonl

    def append_hashes(self, step: int, hashes: Mapping[str, int]) -> None:
        """The hash of every tensor after `step` updates (`train/fingerprints.py`), by name."""
        files.append(
            self.path / "fingerprints.jsonl", strict_json.encode({"step": step, "hashes": hashes})
        )

    def hashes(self) -> dict[int, dict[str, int]]:
        """Step -> name -> hash, of the steps at which they were taken."""
        return {line["step"]: line["hashes"] for line in self._read_lines("fingerprints.jsonl")}

    # ---- attempts.jsonl

    def add_attempt(self, **fields: Any) -> None:
        """One line for an attempt that ended badly, at the end of `attempts.jsonl`.

        `failure` (its class), `reason`, `answer`, `changed` (execution fields, dotted -> value),
        `step` that it had reached; the time is added.
        """
        files.make_directory(self.path)
        files.append(self.path / "attempts.jsonl", strict_json.encode({"time": _now(), **fields}))

    def attempts(self) -> list[dict[str, Any]]:
        """The attempts that ended badly, oldest first; without lines that cannot be read, as no
        result depends on them.
        """
        path = self.path / "attempts.jsonl"
        try:
            lines = [line for _, _, line in run_files.tried(path.name, run_files.read(path) or b"")]
        except DamagedError:
            return []
        blank = {"reason": "", "answer": "", "step": 0}
        return [blank | line for line in lines if not isinstance(line, ValueError)]

    def changed(self) -> dict[str, Any]:
        """Execution fields that earlier attempts had to change, dotted -> value."""
        return {k: v for line in self.attempts() for k, v in line.get("changed", {}).items()}

    # ---- spikes.jsonl

    def add_spike(self, record: Mapping[str, Any]) -> None:
        """A spike that the run went back on: `step`, `loss`, `z`, `back_to`, `skipped` batches."""
        files.append(self.path / "spikes.jsonl", strict_json.encode({**record, "time": _now()}))

    def spikes(self) -> list[dict[str, Any]]:
        """The spikes that were gone back on, in order."""
        return self._read_lines("spikes.jsonl")

    # ---- status.json

    def write_status(self, state: State, **fields: Any) -> None:
        """Replaces `status.json` atomically.

        Args:
          state: running, done, failed, diverged, or stopped (the same command resumes it).
          **fields: step, steps, loss, rate (steps a second), eta (seconds), reason, ... `KEPT`
            ones stay as they were when not given; `seconds` adds up the time spent running, and
            `joules` what is given. `log` is where this process writes, if the executor has said so
            (`LOG`).
        """
        old, now = self._or_set_aside("status.json") or {}, _now()
        log = {"log": os.environ[LOG]} if LOG in os.environ else {}
        if "joules" in fields:
            fields["joules"] += old.get("joules", 0.0)
        fields = {name: old[name] for name in KEPT if name in old} | log | fields
        fields.setdefault("started", now)
        fields.setdefault("seconds", 0.0)
        clock = datetime.datetime.now(datetime.UTC).timestamp()
        me = {"pid": os.getpid(), "process": _token(os.getpid())}
        if old.get("state") == "running" and old.get("process") == me["process"]:
            fields["seconds"] += max(0.0, clock - old["clock"])
        files.make_directory(self.path)
        record = {"state": state, **me, **fields, "updated": now, "clock": clock}
        path, text = self.path / "status.json", strict_json.encode(record, indent=2)
        try:
            files.write_atomic(path, text)
        except DiskFullError:
            files.overwrite(path, text)

    def status(self) -> dict[str, Any]:
        """The last `status.json`; {} before the first, unless a process holds the lock (compiling).

        A run that says "running" though no process holds its lock was killed: it is given as
        "stopped", with the reason. One that nobody trains, with a file that readers cannot go by,
        is "damaged", and its reason names the file and the way out: it runs again, as others do
        that are not done.
        """
        status: dict[str, Any] = {}
        try:
            status = run_files.read_object(self.path / "status.json") or {}
            # A workdir that cannot be one is named by `lock`, which makes it.
            going = status.get("state", "running") == "running"
            held = files.is_held(self.path / "lock") if going else False
            if not status:
                return {"state": "running", "step": 0} if held else {}
            if going and held is False:
                trouble = files.trouble(self.path)
                killed = f"killed, or ended by this: {trouble}" if trouble else "killed"
                status |= {"state": "stopped", "reason": f"{killed}; the same command resumes it"}
            if not going or held is False:
                self._check(status)
        except DamagedError as error:
            if files.is_held(self.path / "lock"):
                return {"state": "running", "step": 0} | status  # its process writes it again
            return status | {"state": "damaged", "reason": str(error)}
        return status

    def _check(self, status: Mapping[str, Any]) -> None:
        """Raises DamagedError naming the first file that a reader could not go by. On an object
        store, where a write is whole or none, nothing is read for it.
        """
        if not files.is_local(self.path):
            return
        record = run_files.read_object(self.path / "config.json")
        self.branch()
        self.spikes()
        self._read_lines("attempts.jsonl")
        checkpoints, path = self.path / "checkpoints", self.path / "metrics.jsonl"
        if checkpoints.exists() and not checkpoints.is_dir():
            raise run_files.damaged(checkpoints, "is no folder")
        if record is None or not path.exists():
            return
        done, step = status["state"] == "done", status.get("step", 0)
        sets = record["config"]["evals"]["sets"]
        ends = self.latest(["train", *sets], most=_END if done else _TAIL)
        gone = [name for name in sets if name not in ends or ends[name]["step"] < step]
        if done and gone:
            raise run_files.damaged(path, f"the evaluation of {gone[0]} after step {step} is gone")

    def mend(self) -> list[str]:
        """Within `lock`, before a training: sets aside what is damaged (`run_files.mend`), with a
        sentence for each.
        """
        return run_files.mend(self.path)

    def _or_set_aside(self, name: str) -> dict[str, Any] | None:
        """As `run_files.read_object`; a damaged file is set aside, and then there is none."""
        try:
            return run_files.read_object(self.path / name)
        except DamagedError:
            run_files.set_aside(self.path / name)
            return None

    @property
    def is_done(self) -> bool:
        """Whether the run reached its last step."""
        return self.status().get("state") == "done"


def find_runs(workdir: epath.PathLike) -> list[RunDirectory]:
    """Every run that was started under `workdir`, by name."""
    root = epath.Path(workdir) / "runs"
    if not root.is_dir():
        return []
    paths = sorted(root.iterdir(), key=str)
    return [RunDirectory(path) for path in paths if (path / "config.json").exists()]
