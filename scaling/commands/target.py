"""The flags of a target, shared by `check` and `sweep --check`, and the check that they ask for."""

import json
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from scaling.commands.command import FLAGS, cpu_devices_flag

if TYPE_CHECKING:
    from scaling.check.report import Report
    from scaling.config import RunConfig
    from scaling.slices import Slice


def target_flags() -> None:
    """--topology, --slices, --cpu_devices, --hbm, --json."""
    flags.DEFINE_string("topology", None, "a TPU slice that is not here, e.g. v5e:16x16")
    flags.DEFINE_integer("slices", 1, "of that topology, joined by the network", lower_bound=1)
    flags.DEFINE_float("hbm", None, "bytes a device may use; default: the chip's", lower_bound=1)
    flags.DEFINE_string("json", None, "write the numbers to this file; -: to stdout")
    cpu_devices_flag()


def checker(topology: "Slice | None", slices: int | None = None) -> "Callable[[RunConfig], Report]":
    """The check of one run on the target of the flags, or on the slices given; `target.prepare` was
    called before.
    """
    from scaling import data, runtime
    from scaling.check import target as target_lib
    from scaling.check.cache import Cache
    from scaling.check.report import check
    from scaling.errors import UserError

    cpu_devices, slices = FLAGS.cpu_devices or FLAGS.devices, slices or FLAGS.slices
    if topology is not None and cpu_devices is not None:
        raise UserError("give --topology or --devices, not both")
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
        cache = Cache(data.data_dir() / "check")
    return lambda config: check(config, target, cache)


def write_json(values: Any) -> None:
    """To the file of --json, or to stdout."""
    text = json.dumps(values, indent=1)
    if FLAGS.json == "-":
        print(text)
    else:
        pathlib.Path(FLAGS.json).write_text(text + "\n")
