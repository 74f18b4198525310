"""One run of a packed group: its directory, lock, recorder and checkpoints, and where it stands.

What one member meets (a lock that another process holds, a full disk, a loss that is not finite)
ends that member: its status says so, and the others go on. Of several processes that train a group,
the first alone locks and writes; what only one of them can see, `start` and `settle` tell the
others, so that all go on with the same members. Used by `packed.py`.
"""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from scaling import errors, files
from scaling.config import RunConfig, amounts, run_name
from scaling.devices import distributed
from scaling.errors import UserError
from scaling.records import RunDirectory, State
from scaling.studies import study
from scaling.train import storage
from scaling.train.branch import begin
from scaling.train.checkpoint import Checkpoints
from scaling.train.loop import Outcome, start_directory
from scaling.train.meter import Meter
from scaling.train.progress import Progress
from scaling.train.recorder import Recorder
from scaling.train.rhythm import Diverged, Due, check_means, next_edge
from scaling.train.state import TrainState

Branches = Mapping[int, Sequence[RunConfig]]


class Member:
    """A run that is trained beside others. `outcome` is None while it goes on."""

    outcome: Outcome | Exception | None = None
    trouble: Exception | None = None  # that this process has met, and not yet told the others
    slot = 0  # its place in the stack
    step = 0  # updates whose metrics were seen
    recorder: Recorder
    checkpoints: Checkpoints

    def __init__(
        self,
        config: RunConfig,
        workdir: epath.PathLike,
        branches: Branches,
        pause: int | None = None,
    ):
        self.config, self.branches = config, branches
        self.run = RunDirectory.open(config, workdir)
        self.begun = time.monotonic()
        self.steps = amounts.resolved(config.train.steps)
        # Where this call ends: after the last step, or where it is to be looked at.
        self.last = self.steps if pause is None else min(self.steps, pause)
        self.loss = float("nan")  # of the last line
        self._held = contextlib.ExitStack()
        self._closing = threading.Lock()
        self._writes = jax.process_index() == 0

    @property
    def active(self) -> bool:
        """Whether it is still trained."""
        return self.outcome is None

    def next_edge(self, step: int) -> int:
        """Where the call that starts at `step` must end."""
        return next_edge(step, self.config, (*self.branches, self.last))

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What is raised inside ends this member, and no other.

        With several processes it is what this one meets alone: `settle` ends the member.
        """
        try:
            yield
        except Exception as error:
            if jax.process_count() == 1:
                self.fail(error)
            else:
                self.trouble = self.trouble or error

    @contextlib.contextmanager
    def guarded_together(self) -> Iterator[None]:
        """As `guarded`, for what all processes do at once, in the same order of members.

        A UserError is then met by all of them; anything else one may have met in the middle of what
        the others wait for, and is raised.
        """
        try:
            yield
        except Exception as error:
            if jax.process_count() > 1 and not isinstance(error, UserError):
                raise
            self.fail(error)

    def start(self, devices: Sequence[jax.Device], members: int) -> None:
        """Take the lock and write `config.json`, unless the run has ended already; process 0."""
        status = self.run.status()
        if status.get("state") in ("done", "diverged"):
            self.outcome = Outcome(status["state"], status["step"], status.get("reason"))
            return
        try:
            self._held.enter_context(self.run.lock())
        except UserError as error:  # another process has it: its status is not ours to write
            self.outcome = storage.explained(error, self.run)
            return
        try:
            for text in self.run.mend():
                print(f"{self.run.path.name}: {text}", file=sys.stderr, flush=True)
            kind = devices[0].device_kind
            start_directory(self.run, self.config, kind, len(devices), members)
            # Orbax makes it as well, where another process would wait for minutes if it could not.
            files.make_directory(self.run.path / "checkpoints")
        except Exception as error:
            self.fail(error)

    def restore(self, abstract: TrainState) -> TrainState | None:
        """Its newest state, if it has one, laid out as `abstract` says."""
        path = self.run.path / "checkpoints"
        self.checkpoints = self._held.enter_context(Checkpoints(path, self.config))
        if self._writes:
            self.checkpoints.clean()
        return self.checkpoints.restore(abstract)

    def go_on(self, step: int, mesh: jax.sharding.Mesh, members: int) -> None:
        """Begin to record, from the state after `step` updates, as one of so many members."""
        self.step = step
        # From nothing, what an earlier start wrote is computed again from line one.
        if self._writes:
            self.run.truncate(step or -1)
            self.run.went_on(step)
        self.recorder = Recorder(
            self.config,
            self.run,
            step,
            Meter(self.config, mesh, self.begun, members=members),
            writes=self._writes,
            progress=Progress(run_name(self.config), self.steps, quiet=True),
            status_every=float(members),  # one write of a status a second, over all
        )
        self._held.callback(self._close_recorder)
        self.recorder.status("running", step)

    def record(self, due: Due) -> None:
        """The lines of a call; what is not finite in it ends the run."""
        with self.guarded():
            self.checkpoints.check()
            self.recorder.train_lines(due)
        if due.lines:
            self.loss = due.lines[-1][1]["loss"]
        if due.problem is not None and self.active:
            self._diverged(due.problem)

    def evaluated(
        self, step: int, means: dict[str, dict[str, float]], seconds: float, whole: float
    ) -> None:
        """The means of every set after `step` updates; one that is not finite ends the run. It took
        so many seconds, and would have taken `whole` for all members.
        """
        try:
            check_means(step, means)
        except Diverged as problem:
            self._diverged(problem)
            return
        with self.guarded():
            self.recorder.evaluation(step, means, seconds, whole)

    def flush(self) -> None:
        """Put down every line that a checkpoint, or a branch, implies."""
        with self.guarded():
            self.recorder.flush()

    def save(self, step: int, state: Callable[[], TrainState], told: bool) -> None:
        """Begin the branches that leave here, and save, if `told`; after `flush`."""
        if step in self.branches:
            provenance = self.run.record()["provenance"]
            for config in self.branches[step]:
                size = study.size(config)
                begin(config, self.run, state(), step, provenance, size)
        if told:
            self.checkpoints.save(step, state())

    def _diverged(self, problem: Diverged) -> None:
        self.end(Outcome("diverged", problem.step, problem.reason(self.run.path)))

    def end(self, outcome: Outcome) -> None:
        """Let go of everything; the run is `outcome` when its last state is on disk."""
        with self._closing, self.guarded_together():
            self.outcome = outcome
            with self.guarded():
                self.recorder.close()
            if self.outcome is not outcome:
                return
            self.checkpoints.wait()
            if self.trouble is None:
                reason = {"reason": outcome.reason} if outcome.reason else {}
                with self.guarded():
                    self.recorder.status(outcome.status, outcome.step, **reason)
            self._held.close()

    def fail(self, error: Exception) -> None:
        """As `end`, for what should not have happened."""
        self.outcome = storage.explained(error, self.run)
        with contextlib.suppress(Exception):
            self.checkpoints.wait()
        self._write_failure("failed", self.outcome)
        with contextlib.suppress(Exception):
            self._held.close()

    def abandon(self, error: Exception) -> None:
        """As `fail`, when this process ends, and waits for no other."""
        self.outcome = error
        with contextlib.suppress(Exception):
            self._close_recorder()
        self._write_failure("stopped" if distributed.peer_lost(error) else "failed", error)

    def _write_failure(self, state: State, error: Exception) -> None:
        if self._writes:
            with contextlib.suppress(Exception):  # the disk may be what failed
                storage.write_end(self.run, state, error)

    def _close_recorder(self) -> None:
        with contextlib.suppress(Exception):  # `end` has closed it, if it could be
            self.recorder.close()


# ---- of several processes


def start(members: Sequence[Member], devices: Sequence[jax.Device]) -> None:
    """Begin all members: process 0 does, and the others hear what came of it."""
    first = jax.process_index() == 0
    if first:
        for member in members:
            member.start(devices, len(members))
    told = distributed.gather([_told(member.outcome) for member in members])[0]
    for member, outcome in zip(members, told, strict=True):
        if not first:
            member.outcome = _heard(outcome)


def settle(members: Sequence[Member]) -> None:
    """End the members with which some process cannot go on; all processes call this together."""
    if jax.process_count() == 1:
        return
    met: dict[str, Any] = {}
    for theirs in distributed.gather(
        {str(i): _told(m.trouble) for i, m in enumerate(members) if m.trouble is not None}
    ):
        met = theirs | met
    for i, member in enumerate(members):
        if str(i) in met:
            error = member.trouble or _heard(met[str(i)])
            assert isinstance(error, Exception)
            member.trouble = None
            member.fail(error)


def _told(outcome: Outcome | Exception | None) -> dict[str, Any] | None:
    """As JSON."""
    if isinstance(outcome, Exception):
        return {"kind": type(outcome).__name__, "text": str(outcome)}
    return None if outcome is None else dataclasses.asdict(outcome)


def _heard(told: Mapping[str, Any] | None) -> Outcome | Exception | None:
    """What `_told` was given, as far as another process needs it."""
    if told is None:
        return None
    if "kind" not in told:
        return Outcome(**told)
    kind = getattr(errors, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, UserError):
        return kind(told["text"])
    return RuntimeError(f"{told['kind']}: {told['text']}")
