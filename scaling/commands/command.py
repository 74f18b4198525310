"""What a sub-command of `launch.py` is, and the flags that several share."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from absl import flags

FLAGS = flags.FLAGS


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
        lines = [self.help, "", "Flags:"]
        for module, defined in sorted(FLAGS.flags_by_module_dict().items()):
            if module.startswith("scaling.commands."):
                for flag in sorted(defined, key=lambda flag: flag.name):
                    default = "" if flag.value in (None, "") else f" (default {flag.value})"
                    lines.append(f"  --{flag.name:17s} {flag.help}{default}")
        return "\n".join(lines)


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


def workdir_flag() -> None:
    """--workdir."""
    flags.DEFINE_string("workdir", "out", "folder of the run directories, tables and reports")


def experiment_flag() -> None:
    """--experiment."""
    flags.DEFINE_string(
        "experiment", None, "a study, e.g. experiments/width.py or .../width.py:debug"
    )


def cpu_devices_flag() -> None:
    """--cpu_devices."""
    flags.DEFINE_integer("cpu_devices", None, "split the CPU into this many devices (debugging)")
