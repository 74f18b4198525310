"""One run of a packed group: its directory, lock, recorder and checkpoints, and where it stands.

What one member meets (a lock that another process holds, a full disk, a loss that is not finite)
ends that member: its status says so, and the others go on. Used by `packed.py`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from scaling import ladder
from scaling.config import RunConfig
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.train.branch import begin
from scaling.train.checkpoint import Checkpoints
from scaling.train.loop import Outcome, make_recorder, start_directory
from scaling.train.recorder import Recorder
from scaling.train.rhythm import Diverged, Due, next_edge
from scaling.train.state import TrainState

Branches = Mapping[int, Sequence[RunConfig]]


class Member:
    """A run that is trained beside others. `outcome` is None while it goes on."""

    outcome: Outcome | Exception | None = None
    slot = 0  # its place in the stack
    step = 0  # updates whose metrics were seen
    recorder: Recorder
    checkpoints: Checkpoints

    def __init__(self, config: RunConfig, workdir: epath.PathLike, branches: Branches):
        self.config, self.branches = config, branches
        self.run = RunDirectory.open(config, workdir)
        self.begun = time.monotonic()
        self.steps = ladder.resolved(config.train.steps)
        self.loss = float("nan")  # of the last line
        self._held = contextlib.ExitStack()
        self._closing = threading.Lock()

    @property
    def active(self) -> bool:
        """Whether it is still trained."""
        return self.outcome is None

    def next_edge(self, step: int) -> int:
        """Where the call that starts at `step` must end."""
        return next_edge(step, self.config, self.branches)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What is raised inside ends this member, and no other."""
        try:
            yield
        except Diverged as problem:
            self.end(Outcome("diverged", problem.step, str(problem)))
        except Exception as error:
            self.fail(error)

    def start(self, devices: Sequence[jax.Device]) -> None:
        """Take the lock and write `config.json`, unless the run has ended already."""
        status = self.run.status()
        if status.get("state") in ("done", "diverged"):
            self.outcome = Outcome(status["state"], status["step"], status.get("reason"))
            return
        try:
            self._held.enter_context(self.run.lock())
        except UserError as error:  # another process has it: its status is not ours to write
            self.outcome = error
            return
        with self.guarded():
            start_directory(self.run, self.config, devices)

    def restore(self, abstract: TrainState) -> TrainState | None:
        """Its newest state, if it has one, laid out as `abstract` says."""
        path = self.run.path / "checkpoints"
        self.checkpoints = self._held.enter_context(Checkpoints(path, self.config))
        self.checkpoints.clean()
        return self.checkpoints.restore(abstract)

    def go_on(self, step: int, mesh: jax.sharding.Mesh, **options: Any) -> None:
        """Begin to record, from the state after `step` updates; `options` are the recorder's."""
        self.step = step
        # From nothing, what an earlier start wrote is computed again from line one.
        self.run.truncate(step or -1)
        self.recorder = make_recorder(
            self.config, self.run, step, mesh, writes=True, quiet=True, begun=self.begun, **options
        )
        self._held.callback(self.recorder.close)
        self.recorder.status("running", step)

    def record(self, due: Due) -> None:
        """The lines of a call; raises what is not finite in it."""
        self.recorder.train_lines(due)
        if due.lines:
            self.loss = due.lines[-1][1]["loss"]
        if due.problem is not None:
            raise due.problem

    def save(self, step: int, state: Callable[[], TrainState], told: bool) -> None:
        """Begin the branches that leave here, and save, if `told`."""
        if step in self.branches:
            provenance, size = (self.run.record()[key] for key in ("provenance", "size"))
            for config in self.branches[step]:
                begin(config, self.run, state(), step, provenance, size)
        if told:
            self.recorder.flush()
            self.checkpoints.save(step, state())

    def end(self, outcome: Outcome) -> None:
        """Let go of everything; the run is `outcome` when its last state is on disk."""
        with self._closing:
            self.outcome = outcome
            try:
                self.recorder.close()
                self.checkpoints.wait()
                reason = {"reason": outcome.reason} if outcome.reason else {}
                self.recorder.status(outcome.status, outcome.step, **reason)
                self._held.close()
            except Exception as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """As `end`, for what should not have happened."""
        self.outcome = error
        status: dict[str, Any] = {"reason": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(Exception):  # the disk may be what failed
            self.run.write_status("failed", **status)
        with contextlib.suppress(Exception):
            self._held.close()
