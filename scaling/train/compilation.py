"""A jitted function whose compilation is seen: how long it took and what memory it plans.

Called by the loop, which would otherwise count the compiler's time as that of the first step.
Under jax's debugging switches the function is called as it is: what is compiled ahead of time
knows nothing of them.
"""

import contextlib
import time
from dataclasses import dataclass
from typing import Any

import jax


@dataclass
class Compiled:
    """Compiles `jitted` at the first call, for the shapes of that call, and then only runs it."""

    jitted: jax.stages.Wrapped
    seconds: float = 0.0  # to trace and compile
    device_bytes: int | None = None  # that one device holds in a call, as the compiler plans
    _call: Any = None

    def __call__(self, *args: Any) -> Any:
        """As `jitted`."""
        if debugging():
            return self.jitted(*args)
        if self._call is None:
            begin = time.monotonic()
            self._call = self.jitted.lower(*args).compile()
            self.seconds = time.monotonic() - begin
            self.device_bytes = planned_bytes(self._call)
        return self._call(*args)


def debugging() -> bool:
    """Whether jax is told to run everything eagerly (JAX_DISABLE_JIT), or to look at every result
    (JAX_DEBUG_NANS, JAX_DEBUG_INFS).
    """
    names = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")
    return any(getattr(jax.config, name) for name in names)


def no_transfers() -> contextlib.AbstractContextManager[Any]:
    """Where no array may move between host and device unasked; eagerly every constant does."""
    return contextlib.nullcontext() if debugging() else jax.transfer_guard("disallow")


def planned_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Arguments, temporaries and results of one device; None where the compiler does not say."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    total = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    return int(total + stats.output_size_in_bytes - stats.alias_size_in_bytes)
