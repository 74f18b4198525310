"""What a process decides about jax before it touches a device: cache, platform, logging.

Called once by `launch.py` and by each worker; importing this file does nothing.
"""

import logging
import os

import jax

from scaling import data


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
        jax.config.update("jax_compilation_cache_dir", str(data.data_dir() / "jax_cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
