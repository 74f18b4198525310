"""Peak FLOP/s of a device: the denominator of MFU. Called by the loop's meter and by `check`."""

import functools
import time

import jax
import jax.numpy as jnp

from scaling.devices import chips


def peak_flops(device: jax.Device, dtype: str) -> float | None:
    """FLOP/s that one device can at most do in matmuls of `dtype`: the denominator of MFU.

    float32 is counted as JAX runs it by default: in one bfloat16 pass on a TPU, in TF32 on a GPU,
    at half of the bfloat16 rate. A CPU's peak is measured, and shared among its devices. None for a
    device that is not in the table.
    """
    if device.platform == "cpu":
        return measured_cpu_peak() / jax.local_device_count("cpu")
    chip = chips.of_device(device.device_kind)
    return None if chip is None else chip.peak(dtype)


@functools.cache
def measured_cpu_peak() -> float:
    """FLOP/s of this machine's CPU in a float32 matmul, all cores; measured once, in 0.1 s."""
    size, chain = 768, 4
    with jax.default_device(jax.devices("cpu")[0]):
        matrix = jax.jit(lambda: jnp.full((size, size), 1 / size))()
        run = jax.jit(lambda m: functools.reduce(jnp.matmul, [m] * chain, m))
        run(matrix).block_until_ready()
        seconds = []
        for _ in range(8):
            begin = time.perf_counter()
            run(matrix).block_until_ready()
            seconds.append(time.perf_counter() - begin)
    return chain * 2 * size**3 / min(seconds)
