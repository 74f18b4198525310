"""Command lines of the cloud's own tools, run and read. Called by the backends of this folder."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from scaling.errors import UserError


def text(line: Sequence[str]) -> str:
    """A command line for a person and a shell, quoted where need be: --flag='the value'."""
    parts = []
    for part in line:
        flag, is_flag, value = part.partition("=")
        quoted = f"{flag}={shlex.quote(value)}" if is_flag and flag.startswith("--") else None
        parts.append(quoted or shlex.quote(part))
    return " ".join(parts)


def need(tool: str, executor: str) -> None:
    """Raise UserError unless the tool is installed here."""
    if shutil.which(tool) is None:
        raise UserError(f"--executor={executor} needs {tool} on this machine; docs/tpu.md says how")


def run(line: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command, to its end; whatever it printed is kept."""
    return subprocess.run(line, capture_output=True, text=True, check=False)


def read(line: Sequence[str]) -> Any:
    """The JSON that a command prints; None when it fails."""
    done = run(line)
    if done.returncode:
        return None
    return json.loads(done.stdout)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The last lines of what a command that failed had to say."""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"{done.args[0]} ended with exit code {done.returncode}: {' '.join(said[-3:])}"
