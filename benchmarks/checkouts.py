"""Two checkouts of the code side by side: their command lines, with folders that both read.

Used by `same_numbers.py` and `same_speed.py`; nothing of either checkout is imported.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

TEXT = "data.source=text:{texts}/*.txt"  # a corpus that is prepared in no time


@dataclass(frozen=True)
class Place:
    """A checkout and the folder in which its commands run."""

    checkout: pathlib.Path
    folder: pathlib.Path  # workdirs are relative to it, so that what is printed can be compared
    shared: pathlib.Path  # texts, prepared data and compiled programs, of both checkouts

    def start(self, *arguments: str, data: str = "data") -> subprocess.Popen[str]:
        """`launch.py` of the checkout."""
        environment = os.environ | {
            "PYTHONPATH": str(self.checkout),
            "SCALING_DATA_DIR": str(self.shared / data),
            "JAX_COMPILATION_CACHE_DIR": str(self.shared / "jax"),
            "JAX_PLATFORMS": "cpu",
        }
        return subprocess.Popen(
            [sys.executable, str(self.checkout / "launch.py"), *arguments],
            cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, data: str = "data") -> str:
        """What a command prints. Raises RuntimeError where it fails."""
        process = self.start(*arguments, data=data)
        out, err = process.communicate()
        if process.returncode:
            last = (err.strip().splitlines() or ["no word"])[-1]
            raise RuntimeError(f"{self.checkout}: launch.py {arguments[0]}: {last}")
        return out

    def train_flags(self, config: Sequence[str], workdir: str, **train: object) -> list[str]:
        """`launch.py train` of a config and what is set of it; `train` are fields of that group."""
        fields = [*config[1:], *(f"train.{name}={value}" for name, value in train.items())]
        return [
            *("train", f"--config={self.checkout}/{config[0]}", f"--workdir={workdir}"),
            *(f"--config.{field.format(texts=self.shared / 'texts')}" for field in fields),
        ]


def pair(before: pathlib.Path, after: pathlib.Path, folder: pathlib.Path) -> tuple[Place, Place]:
    """The two, with all that they write in a folder."""
    texts = folder / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    for i in range(40):
        words = [f"word{(i * 7 + j * j) % 61}" for j in range(400)]
        (texts / f"{i}.txt").write_text(" ".join(words))
    places = []
    for name, checkout in (("before", before), ("after", after)):
        (folder / name).mkdir(exist_ok=True)
        places.append(Place(checkout.resolve(), folder / name, folder))
    return places[0], places[1]


def runs_of(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The run directories of a workdir."""
    return sorted((workdir / "runs").glob("*"))


def state_of(workdir: pathlib.Path) -> str | None:
    """That of the one run of a workdir: done, stopped, ...; None where there is none."""
    states = [run / "status.json" for run in runs_of(workdir)]
    return json.loads(states[0].read_text())["state"] if states and states[0].exists() else None


def commit_of(checkout: pathlib.Path) -> str | None:
    """None for a checkout with changes, or none of git's."""
    answers = []
    for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        command = ["git", "-C", str(checkout), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answers.append(None if done.returncode else done.stdout.strip())
    return answers[0] if answers[1] == "" else None
