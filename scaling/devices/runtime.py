"""What a process decides about jax before it touches a device: cache, platform, logging.

`configure` is called once by `launch.py` and by each worker; importing this file does nothing.
"""

import logging
import os

import jax

from scaling import files

_PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"  # read by jaxlib when it opens the GPUs


def configure(cpu_devices: int | None = None) -> None:
    """Turn the persistent compilation cache on; optionally split the CPU into several devices."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Messages on every start that tell a user nothing.
    for chatty in ("absl", "orbax", "jax._src.xla_bridge"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    if cpu_devices is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(files.data_dir() / "jax_cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def only_look() -> None:
    """Open the devices without their memory, most of which jax takes on a GPU at once: for a
    process whose workers train.
    """
    before = os.environ.get(_PREALLOCATE)
    os.environ[_PREALLOCATE] = "false"
    try:
        jax.devices()
    finally:
        del os.environ[_PREALLOCATE]
        if before is not None:
            os.environ[_PREALLOCATE] = before
