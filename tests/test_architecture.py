"""One direction: a file imports only what stands above it, and nothing happens at import."""

import ast
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).parents[1]
# Top to bottom, as in CONTRIBUTING.md: a room may import rooms of the lines above its own. Rooms of
# one line do not know each other.
ROOMS = [
    ["errors", "units", "place"],
    ["files", "heartbeat"],
    ["config"],
    ["devices"],
    ["models", "data", "metrics"],
    ["objectives", "optim"],
    ["families"],
    ["transforms"],
    ["costs"],
    ["records"],
    ["studies"],
    ["train"],
    ["check"],
    ["executors"],
    ["certify", "tuning"],
    ["debug", "exchange", "explain", "serving"],
    ["commands", "library"],
]
# These read what is written down only. They and the rooms of training do not know each other.
READERS = [["laws", "trackers"], ["report"]]
SHARED = {"errors", "units", "place", "files", "config", "records"}


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(REPOSITORY / "scaling").parts[0].removesuffix(".py")


def imports() -> dict[str, set[str]]:
    """Room -> rooms that it imports, anywhere in its files."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "scaling").rglob("*.py")):
        if path.name == "__init__.py" and path.parent.name == "scaling":
            continue
        here = found.setdefault(room_of(path), set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "scaling":
                here |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scaling."):
                here.add(str(node.module).split(".")[1])
            elif isinstance(node, ast.Import):
                here |= {a.name.split(".")[1] for a in node.names if a.name.startswith("scaling.")}
    return {room: rooms - {room} for room, rooms in found.items()}


def test_no_arrow_runs_back():
    height = {room: i for i, rooms in enumerate(ROOMS) for room in rooms}
    readers = {room: i for i, rooms in enumerate(READERS) for room in rooms}
    wrong = []
    for room, imported in imports().items():
        assert room in height or room in readers, f"scaling/{room} has no place in ROOMS"
        for other in imported:
            if room in ("commands", "library"):
                fine = True  # below both branches: the shell, and the same for notebooks
            elif room in readers:
                fine = other in SHARED or readers.get(other, 99) < readers[room]
            else:
                fine = other in height and height[other] < height[room]
            if not fine:
                wrong.append(f"scaling/{room} imports scaling/{other}")
    assert not wrong


def every_module() -> list[str]:
    return [
        ".".join(p.relative_to(REPOSITORY).with_suffix("").parts)
        for p in sorted((REPOSITORY / "scaling").rglob("*.py"))
        if p.name != "__init__.py"
    ]


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def test_config_and_data_do_not_import_jax():
    rooms = "config", "data"
    modules = ", ".join(name for name in every_module() if name.split(".")[1] in rooms)
    done = run(f"import sys, {modules}; sys.exit('jax' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_importing_everything_touches_no_device_and_no_tensorflow():
    done = run(
        f"import sys, {', '.join(every_module())}\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized(), 'a device was touched at import'\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_tensorflow_is_not_installed():
    """Everything must work without it: were it there, its absence would go untested."""
    assert run("import tensorflow").returncode != 0


def test_files_of_tests_that_are_in_no_package_have_names_of_their_own():
    """pytest cannot collect two of one name together."""
    files = (REPOSITORY / "tests").rglob("test_*.py")
    names = [file.name for file in files if not (file.parent / "__init__.py").exists()]
    assert sorted(set(names)) == sorted(names)
