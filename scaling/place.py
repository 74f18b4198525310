"""Where this code stands: in a checkout, or installed from its wheel, in which `configs/` and
`experiments/` are inside the package (setup.py).

Gives the file that a person names, from any folder, and what the program is called there. Called by
whoever reads a config or a study, and by texts that name a command.
"""

import importlib.util
import os
import pathlib
import sys

_PACKAGE = pathlib.Path(__file__).parent
_CARRIED = _PACKAGE / "checkout"  # what a wheel has of the top of the checkout


def root() -> pathlib.Path:
    """The folder that has `configs/` and `experiments/`."""
    return _CARRIED if _CARRIED.is_dir() else _PACKAGE.parent


def python_path() -> str:
    """PYTHONPATH of a process that is to import this code, wherever it is started."""
    return os.pathsep.join(filter(None, (str(_PACKAGE.parent), os.environ.get("PYTHONPATH"))))


def program() -> str:
    """How a person calls a command."""
    return "scaling" if _CARRIED.is_dir() else "python launch.py"


def called(text: str) -> str:
    """A text that names commands as `python launch.py`, or `launch.py`, with `program`."""
    if _CARRIED.is_dir():
        text = text.replace("python launch.py", "launch.py").replace("launch.py", program())
    return text


def importable() -> None:
    """Modules of the current folder, and `configs` and `experiments` from any, can be imported."""
    for folder in (os.getcwd(), str(root())):
        if folder not in sys.path:
            sys.path.append(folder)


def is_run(folder: str) -> bool:
    """Whether a folder is a run directory, and no model that was exported."""
    try:
        return '"fingerprint"' in (pathlib.Path(folder) / "config.json").read_text()
    except (OSError, UnicodeDecodeError):
        return False


def find(name: str) -> pathlib.Path | None:
    """The Python file that is meant: a path from here, one that the installed code has
    ("experiments/width.py"), or a module ("experiments.width", "mine.studies.first"). None: there
    is none.
    """
    for path in (pathlib.Path(name), root() / name):
        if path.is_file():
            return path
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    importable()
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return pathlib.Path(found.origin) if found and found.has_location and found.origin else None
