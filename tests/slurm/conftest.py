"""A sweep on the Slurm that `make test-slurm` has started, as a person starts it."""

import copy
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from scaling.config import RunConfig
from scaling.executors.slurm import queue
from scaling.records import RunDirectory
from scaling.studies import study

from . import cluster

REPOSITORY = pathlib.Path(__file__).parents[2]
PATIENCE = 400  # seconds until something counts as hanging
# One task a core and little else; a look at the queue twice a second. The first process of a run
# listens on loopback only. Each start of a task says in its log where it is.
FLAGS = (
    *("--executor=slurm", "--slurm_cpus=1", "--slurm_mem=1", "--slurm_poll=0.5"),
    "--slurm_setup=export JAX_COORDINATOR_BIND_ADDRESS=127.0.0.1:$((SLURM_JOB_ID % 4096 + 61440))",
    "--slurm_setup=echo start on $SLURMD_NODENAME",
)
STUDY = """\
from configs import lm
from scaling.config import from_dict, override
from scaling.config.sweep import Study

def get_study(arg):
    base = override(from_dict(lm.get_config()), {base!r})
    return Study(name="test", question="?", base=base, runs={runs!r})
"""


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    os.environ.update(cluster.environment())
    if not cluster.is_up():
        pytest.fail("no Slurm of tests/slurm/cluster.py runs here; `make test-slurm` starts one")


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Poll until it holds; fail after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


class Scheduler:
    """A process of `launch.py sweep`, and what it says."""

    def __init__(self, command: list[str], workdir: pathlib.Path, flags: list[str]):
        workdir.mkdir(exist_ok=True)
        self._said = workdir / f"said-{time.monotonic_ns()}.txt"
        with self._said.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, f"--workdir={workdir}", "--noreport", *flags],
                cwd=REPOSITORY,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """Its output up to now."""
        return self._said.read_text()

    def end(self, expected: int = 0) -> str:
        """Wait for it to end, with this exit code; its output."""
        code = self._process.wait(PATIENCE)
        assert code == expected, self.said()
        return self.said()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


class Sweep:
    """A study of the tiny run, its workdir, and the processes of `launch.py sweep`."""

    def __init__(self, folder: pathlib.Path, base: dict, runs: list[dict]):
        self.workdir, self._file = folder / "out", folder / "study.py"
        self._file.write_text(STUDY.format(base=base, runs=runs))
        self.configs: list[RunConfig] = study.runs(study.load_study(str(self._file)))
        self._all: list[Scheduler] = []

    def elsewhere(self, workdir: pathlib.Path) -> "Sweep":
        """The same runs in another workdir."""
        other = copy.copy(self)
        other.workdir = workdir
        return other

    def run(self, config: RunConfig) -> RunDirectory:
        """Where a run of it is."""
        return RunDirectory.open(config, self.workdir)

    def start(self, *flags: str, executor: tuple[str, ...] = FLAGS) -> Scheduler:
        """The scheduler's process."""
        command = [sys.executable, "launch.py", "sweep", f"--experiment={self._file}"]
        self._all.append(Scheduler(command, self.workdir, [*executor, *flags]))
        return self._all[-1]

    def train(self, *flags: str, executor: tuple[str, ...] = FLAGS) -> str:
        """All of it; what the scheduler said."""
        return self.start(*flags, executor=executor).end()

    def log(self, config: RunConfig) -> str:
        """What the run's task wrote, in all of its starts: `status` knows where."""
        return pathlib.Path(self.run(config).status()["log"]).read_text()

    def task(self, config: RunConfig) -> str:
        """The Slurm id of the task that trained the run last."""
        return pathlib.Path(self.run(config).status()["log"]).name.removesuffix("_0_log.out")

    def starts(self, config: RunConfig) -> list[str]:
        """The nodes on which the run's last task began, again and again."""
        lines = self.log(config).splitlines()
        return [line.removeprefix("start on ") for line in lines if line.startswith("start on ")]

    def submitted(self) -> list[int]:
        """Tasks of each submission."""
        lines = (self.workdir / "slurm" / "submitted.jsonl").read_text().splitlines()
        return [len(json.loads(line)["tasks"]) for line in lines]

    def step(self, config: RunConfig) -> int:
        """How far the run is."""
        return self.run(config).status().get("step", 0)

    def close(self) -> None:
        """End what a failed test left."""
        for scheduler in self._all:
            scheduler.kill()
        mine = [e.id for e in (queue.read() or {}).values() if not e.is_over]
        queue.cancel(mine)


@pytest.fixture
def sweep(tmp_path, tiny_fields) -> Iterator[Callable[..., Sweep]]:
    """`sweep(runs, **base)`: a study of these overrides of the tiny run."""
    made: list[Sweep] = []

    def make(runs: list[dict], base: dict | None = None) -> Sweep:
        made.append(Sweep(tmp_path, tiny_fields | (base or {}), runs))
        return made[-1]

    yield make
    for one in made:
        one.close()
    for node in cluster.NODES:
        cluster.restore_node(node)


@pytest.fixture
def make_reference(tmp_path) -> Callable[[Sweep], Sweep]:
    """The same study, undisturbed, on this machine."""

    def make(sweep: Sweep) -> Sweep:
        reference = sweep.elsewhere(tmp_path / "reference")
        # Each by itself, as Slurm trains them: a packed group rounds otherwise.
        reference.train(executor=("--executor=local", "--workers=2", "--pack=off"))
        return reference

    return make
