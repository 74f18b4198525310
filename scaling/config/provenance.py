"""Which code made a result: the git commit and the versions of the packages that matter.

Called once a run by the trainer and by whoever writes a table or a report. No jax in this file: the
versions come from the installed metadata.
"""

import contextlib
import functools
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scaling")


@functools.cache
def provenance() -> dict[str, Any]:
    """Python, package versions, and the git commit (None outside a checkout) with its dirty flag.

    Nothing that names a person or a machine. The caller adds `device_kind` and `device_count`, and
    `members` for a run of a packed group.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": versions,
    }


def _git(*arguments: str) -> str | None:
    root = pathlib.Path(__file__).parents[2]  # of the checkout
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
