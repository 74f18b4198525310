"""Learning-rate schedules as pure functions of traced hyper-parameters, and the shapes of these."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.config import RunConfig, programs

Hparams = Mapping[str, Any]  # name -> scalar, traced inside a step


def hparams_shapes(config: RunConfig, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """`programs.hparams` without their values, for a step that is traced and not run."""
    return {
        name: jax.ShapeDtypeStruct((), value.dtype, sharding=sharding)
        for name, value in programs.hparams(config).items()
    }


def schedule(step: Any, hparams: Hparams, name: str) -> jax.Array:
    """Learning rate / peak, for the update that takes the state from `step` to `step + 1`.

    Let n = step + 1, W the warm-up and T all updates: the factor is n / W up to n = W, where it
    is 1, then falls by the named schedule, and n = T, the last update, has `final_lr_fraction`
    (cosine, linear, wsd). wsd stays at 1 and falls linearly over the last `decay_steps` updates;
    rsqrt is sqrt(W / n), with W = 1 when there is no warm-up, and never ends.
    """
    n = jnp.asarray(step, jnp.float32) + 1.0
    warmup, total = hparams["warmup_steps"], hparams["total_steps"]
    final = hparams["final_lr_fraction"]

    def through(start: Any, length: Any) -> jax.Array:
        return jnp.clip((n - start) / jnp.maximum(length, 1.0), 0.0, 1.0)

    if name == "cosine":
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * through(warmup, total - warmup)))
        decay = final + (1.0 - final) * cosine
    elif name == "linear":
        decay = 1.0 - (1.0 - final) * through(warmup, total - warmup)
    elif name == "wsd":
        cooldown = hparams["decay_steps"]
        decay = 1.0 - (1.0 - final) * through(total - cooldown, cooldown)
    elif name == "rsqrt":
        decay = jnp.sqrt(jnp.maximum(warmup, 1.0) / n)
    elif name == "constant":
        decay = jnp.float32(1.0)
    else:
        raise ValueError(f"{name!r} is no schedule")
    # Before the end of the warm-up every decay factor is at least n / W, unless wsd's cool-down
    # already began: then the lower of the two holds, without a jump.
    return jnp.minimum(jnp.minimum(n / jnp.maximum(warmup, 1.0), 1.0), decay)


def learning_rate(step: Any, hparams: Hparams, name: str) -> jax.Array:
    """Learning rate of the update that follows `step` updates; see `schedule` for `name`."""
    return hparams["peak_lr"] * schedule(step, hparams, name)
