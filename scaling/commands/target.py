"""The flags of a target, shared by `check` and `sweep --check`, and the check that they ask for."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from scaling import files
from scaling.commands.command import FLAGS, cpu_devices_flag
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.check.report import Report
    from scaling.config import RunConfig
    from scaling.devices.slices import Slice


def target_flags() -> None:
    """--topology, --slices, --cpu_devices, --hbm, --json."""
    flags.DEFINE_string("topology", None, "a TPU slice that is not here, e.g. v5e:16x16")
    flags.DEFINE_integer("slices", 1, "of that topology, joined by the network", lower_bound=1)
    flags.DEFINE_float("hbm", None, "bytes a device may use; default: the chip's", lower_bound=1)
    flags.DEFINE_string("json", None, "write the numbers to this file; -: to stdout")
    cpu_devices_flag()


def checker(topology: "Slice | None", slices: int | None = None) -> "Callable[[RunConfig], Report]":
    """The check of one run on the target of the flags, or on the slices given; `target.prepare` was
    called before. Raises UserError for flags that do not go together, or a --json that cannot be
    written.
    """
    from scaling.check import target as target_lib
    from scaling.check.cache import Cache
    from scaling.check.report import check
    from scaling.devices import runtime

    check_json()
    cpu_devices, slices = FLAGS.cpu_devices or FLAGS.devices, slices or FLAGS.slices
    if topology is not None and cpu_devices is not None:
        name = "cpu_devices" if FLAGS.cpu_devices else "devices"
        raise UserError(f"give --topology or --{name}, not both")
    if topology is None and slices > 1:
        raise UserError(f"--slices={slices} needs --topology, e.g. --topology=v5e:16x16")
    runtime.configure(cpu_devices)
    if topology is None:
        target, cache = target_lib.of_devices(hbm_bytes=FLAGS.hbm), None
    else:
        import jax

        # It writes what it cannot read again without a device; ours keeps what the compiler said.
        jax.config.update("jax_enable_compilation_cache", False)
        target = target_lib.of_topology(topology, slices, FLAGS.hbm)
        cache = Cache(files.data_dir() / "check")
    return lambda config: check(config, target, cache)


def check_json() -> None:
    """Raises UserError if --json cannot be written: before minutes of compiling, not after."""
    if FLAGS.json in (None, "-"):
        return
    path = pathlib.Path(FLAGS.json)
    if path.is_dir():
        why = "it is a directory"
    elif not path.parent.is_dir():
        why = f"there is no directory {path.parent}"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = "it may not be written"
    else:
        return
    raise UserError(f"--json={path}: {why}; name another file, or - for stdout")


def write_json(values: Any) -> None:
    """To the file of --json, or to stdout. Raises UserError if it cannot be written."""
    text = json.dumps(values, indent=1)
    if FLAGS.json == "-":
        print(text)
        return
    try:
        pathlib.Path(FLAGS.json).write_text(text + "\n")
    except OSError as error:
        raise UserError(
            f"--json={FLAGS.json}: {error.strerror or error}; name another file, or - for stdout"
        ) from error
