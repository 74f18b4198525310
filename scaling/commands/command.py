"""What a sub-command of `launch.py` is, and the flags that several share."""

import contextlib
import dataclasses
import logging
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from absl import flags
from etils import epath

from scaling import files, heartbeat, place
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunDirectory

FLAGS = flags.FLAGS
Options = TypeVar("Options")


@dataclass(frozen=True)
class Command:
    """One sub-command: what it is for, its flags, and the function that does it."""

    summary: str
    help: str  # with examples
    define_flags: Callable[[], None]
    run: Callable[[], int]  # gives the exit code
    arguments: tuple[str, ...] = ()  # flags that may be given by their place

    def __str__(self) -> str:
        """Help: examples, then the flags that this command has defined, with their defaults."""
        parser = FLAGS["executor"].parser if "executor" in FLAGS else None
        executors = getattr(parser, "enum_values", ())
        groups: dict[str, list[str]] = {"": [self.help, "", "Flags:"]}
        for module, defined in sorted(FLAGS.flags_by_module_dict().items()):
            if module.startswith("scaling.commands."):
                for flag in sorted(defined, key=lambda flag: flag.name):
                    default = "" if flag.value in (None, "", []) else f" (default {flag.value})"
                    prefix = flag.name.partition("_")[0]
                    group = prefix if prefix in executors else ""
                    lines = groups.setdefault(group, ["", f"With --executor={group}:"])
                    lines.append(f"  --{flag.name:17s} {flag.help}{default}")
        return "\n".join(line for lines in groups.values() for line in lines)


def stop_on_signals() -> threading.Event:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


@contextlib.contextmanager
def preparing(what: str | None, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Says at once, and then by a heartbeat, that `what` is being prepared (a corpus takes its
    time), until the function that it gives is called. Nothing on a terminal, or when `quiet`.
    """
    if what is None or quiet or sys.stderr.isatty():
        yield lambda: None
        return
    began = time.monotonic()
    with heartbeat.Heartbeat(
        lambda: f"preparing {what}: {time.monotonic() - began:.0f} s so far"
    ) as beat:
        heartbeat.say(f"preparing {what}")
        yield beat.close


def check_file(flag: str) -> None:
    """Raises UserError for a --config or --experiment that names no file, before all else."""
    spec = FLAGS[flag].value
    if spec is None or (flag == "config" and place.is_run(spec)):
        return
    if place.find(path := spec.partition(":")[0]) is None:
        example = {"config": "configs/lm.py"}.get(flag, "experiments/quickstart.py")
        raise UserError(f"--{flag}={spec}: {path} is no file; give a path such as {example}")


def given_run(flag: str) -> "RunDirectory":
    """The run directory of a flag. Raises UserError for a folder that is none."""
    return run_at(flag, FLAGS[flag].value)


def run_at(flag: str, path: str | None) -> "RunDirectory":
    """The run directory at a path that was given with a flag. Raises as `given_run`."""
    from scaling.records import RunDirectory

    run = RunDirectory(path or "")
    if not (run.path / "config.json").exists():
        raise UserError(
            f"--{flag}={run.path} is no run directory (config.json is missing: the run was never "
            "started); give one of those in <workdir>/runs"
        )
    return run


def workdir_flag() -> None:
    """--workdir."""
    flags.DEFINE_string("workdir", "out", "folder of the run directories, tables and reports")


_PATIENCE = 10.0  # seconds that a dry run waits for an object store


def reachable_workdir() -> bool:
    """Whether there is a folder --workdir. Raises UserError for a file, or a store out of reach."""
    client = logging.getLogger("gcsfs")  # logs the traceback of what it raises
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        return _is_folder()
    finally:
        client.setLevel(level)


def no_workdir() -> UserError:
    """What a command that reads a sweep says where there is no folder --workdir."""
    return UserError(f"there is no folder --workdir={FLAGS.workdir}; give that of a sweep")


def _is_folder() -> bool:
    workdir = epath.Path(FLAGS.workdir)
    try:
        if workdir.is_dir():
            return True
        found = workdir.exists()
    # An object store's client raises errors of several libraries.
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--workdir={FLAGS.workdir} cannot be reached: {why}") from error
    if found:
        raise UserError(f"--workdir={FLAGS.workdir} is a file; name a folder")
    return False


def workdir_out_of_reach() -> str | None:
    """Why --workdir, on an object store, cannot be read now; None: it can. A client tries for more
    than a minute: whoever only looks waits for a part of it.
    """
    if files.is_local(FLAGS.workdir):
        reachable_workdir()
        return None
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # also when nobody waits any more
    found: list[str | None] = []

    def look() -> None:
        try:
            _is_folder()
        except UserError as error:
            found.append(str(error))
        else:
            found.append(None)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    late = f"--workdir={FLAGS.workdir} cannot be reached: no answer in {_PATIENCE:.0f} s"
    return found[0] if found else late


def experiment_flag() -> None:
    """--experiment."""
    flags.DEFINE_string(
        "experiment", None, "a study, e.g. experiments/width.py or .../width.py:debug"
    )


def cpu_devices_flag() -> None:
    """--cpu_devices."""
    flags.DEFINE_integer(
        "cpu_devices", None, "split the CPU into this many devices (debugging)", lower_bound=1
    )


def options_flags(prefix: str, options: type[Any]) -> None:
    """A flag --<prefix>_<field> for every field of an executor's options."""
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        name, text = f"{prefix}_{field.name}", field.metadata["help"]
        least = field.metadata["least"]
        default: Any = field.default
        kinds = {typing.get_origin(hints[field.name]), hints[field.name]}
        kinds |= set(typing.get_args(hints[field.name]))
        if tuple in kinds:
            flags.DEFINE_multi_string(name, list(default), text)
        elif bool in kinds:
            flags.DEFINE_bool(name, default, text)
        elif int in kinds:
            flags.DEFINE_integer(name, default, text, lower_bound=least)
        elif float in kinds:
            flags.DEFINE_float(name, default, text, lower_bound=least)
        else:
            flags.DEFINE_string(name, default, text)


def given_options(prefix: str, options: type[Options]) -> Options:
    """The options as the flags of `options_flags` say."""
    values = {
        field.name: getattr(FLAGS, f"{prefix}_{field.name}")
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
    }
    return options(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
