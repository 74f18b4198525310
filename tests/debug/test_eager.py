"""Without jit a breakpoint stops in a module, and pdb shows numbers: through a terminal."""

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]
CONFIG = """
from configs import lm
from scaling.models import blocks, layers

class Stops(layers.MLP):
    def __call__(self, x_BxLxD):
        breakpoint()
        return super().__call__(x_BxLxD)

def get_config(arg=""):
    blocks.MLP = Stops
    config = lm.get_config("debug")
    config.model.depth = 1
    config.data.source = "text:{files}/*.txt"
    return config
"""


@pytest.mark.slow
def test_pdb_works_inside_a_module(text_files, tmp_path):
    config = tmp_path / "stops.py"
    config.write_text(CONFIG.format(files=text_files))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "launch.py", "debug", f"--config={config}", "--eager"],
        cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env=os.environ | {"TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    seen = ""

    def until(pattern: str) -> str:
        """What the terminal shows from here up to the pattern."""
        nonlocal seen
        end = time.monotonic() + 300
        while not (found := re.search(pattern, seen)):
            assert time.monotonic() < end, seen
            if select.select([ours], [], [], 1.0)[0]:
                try:
                    seen += os.read(ours, 4096).decode()
                except OSError:  # the other end is closed
                    raise AssertionError(seen) from None
        shown, seen = seen[: found.end()], seen[found.end() :]
        return shown

    def type_in(line: str) -> None:
        os.write(ours, f"{line}\n".encode())

    try:
        # It stops in the forward pass, not before: where the model is built there are no numbers.
        assert "forward pass, eagerly" in until(r"\(Pdb\) ")
        type_in("p x_BxLxD.shape, self.path")
        assert "((8, 32, 32), ('mlp',))" in until(r"\(Pdb\) ")
        type_in("p float(x_BxLxD[0, 0, 0])")
        assert re.search(r"-?\d+\.\d+", until(r"\(Pdb\) "))
        type_in("c")
        assert re.search(r"loss \d", until(r"\(Pdb\) "))  # of the forward pass
        type_in("c")
        until(r"loss \d")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(ours)
