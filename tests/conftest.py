"""Eight CPU devices, a compilation cache that lasts, and no silent rank promotion."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Before the first device query: after it the number of devices is fixed."""
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # Most of a test's time is LLVM's: what it spends on fast code, tiny shapes do not give back.
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(REPOSITORY / ".cache" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
