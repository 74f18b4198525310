"""Optimizers and schedules as pure functions of traced hyper-parameters.

Takes an `OptimConfig`: its structural fields (which optimizer, which schedule, is clipping on) make
an `Optimizer`; every number becomes an entry of `hparams`, a small dict of scalars that the jitted
step takes as an argument. Runs that differ in numbers only share one compilation, and a stack of
`hparams` can be mapped over. Called by `scaling/train/step.py`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from scaling.config import OptimConfig, RunConfig

Hparams = Mapping[str, Any]  # name -> scalar, traced inside a step
Info = dict[str, jax.Array]

# Leaves that are never decayed. The rule goes by name, not by rank: under scanned layers a norm
# scale has the shape [layers, embed], and must be treated as its unrolled twin [embed] is.
NOT_DECAYED = ("scale", "bias")


def hparams(config: RunConfig) -> dict[str, np.generic]:
    """Every value of a resolved run that does not change the program's shape.

    Float32 scalars, but for `seed` (uint32). Lengths are in updates. `clip_norm` and `ema_decay`
    are there only when they are on.
    """
    optim, steps = config.optim, config.train.steps
    assert steps is not None, "the config is not resolved"
    values = {
        "peak_lr": optim.peak_lr,
        "warmup_steps": optim.warmup_steps,
        "decay_steps": round(optim.decay_fraction * steps),
        "total_steps": steps,
        "final_lr_fraction": optim.final_lr_fraction,
        "b1": optim.b1,
        "b2": optim.b2,
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
        "clip_norm": optim.clip_norm,
        "ema_decay": optim.ema_decay,
        "z_loss": config.objective.z_loss,
        "load_balance": config.objective.load_balance,
        "router_z": config.objective.router_z,
    }
    floats = {name: np.float32(value) for name, value in values.items() if value is not None}
    return floats | {"seed": np.uint32(config.seed)}


def hparams_shapes(config: RunConfig, sharding: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """`hparams` without their values, for a step that is traced or compiled and not run."""
    return {
        name: jax.ShapeDtypeStruct((), value.dtype, sharding=sharding)
        for name, value in hparams(config).items()
    }


def program_of(config: RunConfig) -> RunConfig:
    """The run with every value of `hparams` at a common one: runs that share a program are equal.

    What is off stays off, and what is on stays on: that is the program's.
    """
    optim, objective = config.optim, config.objective
    default = OptimConfig()
    same: dict[str, Any] = {
        name: getattr(default, name)
        for name in ("peak_lr", "decay_fraction", "final_lr_fraction", "b1", "b2", "eps")
    }
    same |= {"weight_decay": default.weight_decay, "warmup_steps": 0, "warmup_fraction": None}
    same["clip_norm"] = None if optim.clip_norm is None else 1.0
    same["ema_decay"] = None if optim.ema_decay is None else 0.5
    penalties = ("z_loss", "load_balance", "router_z")
    weights: dict[str, Any] = {name: 1.0 for name in penalties if getattr(objective, name)}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, init_scale=1.0),
        optim=dataclasses.replace(optim, **same),
        objective=dataclasses.replace(objective, **weights),
        train=dataclasses.replace(config.train, steps=1),
        seed=0,
    )


# ---- schedules


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


# ---- optimizers


def _adamw(h: Hparams) -> optax.GradientTransformation:
    return optax.scale_by_adam(h["b1"], h["b2"], h["eps"])


def _adafactor(h: Hparams) -> optax.GradientTransformation:
    """Factored second moment with its decay capped at b2, and momentum b1, as in Zhai et al. 2021,
    "Scaling Vision Transformers", section 3.4. Nothing is normalised over a whole leaf, so that
    scanned and unrolled layers get the same update.
    """

    def decay(step: Any, power: Any) -> jax.Array:
        return jnp.minimum(1.0 - (step + 1.0) ** -power, h["b2"])

    factored = optax.scale_by_factored_rms(
        decay_rate=0.8, epsilon=jnp.square(h["eps"]), decay_rate_fn=decay
    )
    return optax.chain(factored, optax.ema(h["b1"], debias=False))


def _lion(h: Hparams) -> optax.GradientTransformation:
    return optax.scale_by_lion(h["b1"], h["b2"])


def _sgd(h: Hparams) -> optax.GradientTransformation:
    return optax.trace(h["b1"])


OPTIMIZERS = {"adamw": _adamw, "adafactor": _adafactor, "lion": _lion, "sgd": _sgd}


@dataclass(frozen=True)
class Optimizer:
    """The shape of an update: which transforms, in which order. Holds no numbers.

    An update clips the gradient by its global norm, preconditions it, adds the decoupled weight
    decay, and steps against it:

        p <- p - lr * (u + weight_decay * p)               decay tied to the learning rate
        p <- p - lr * u - (lr / peak_lr) * weight_decay * p   independent of its height
    """

    name: str  # key of OPTIMIZERS
    schedule: str  # see `schedule`
    clip: bool  # clip by hparams["clip_norm"]
    independent_weight_decay: bool
    offload: bool = False  # between updates the moments lie in the host's memory

    def _transform(self, h: Hparams) -> optax.GradientTransformation:
        clip = [optax.clip_by_global_norm(h["clip_norm"])] if self.clip else []
        return optax.chain(*clip, OPTIMIZERS[self.name](h))

    def init(self, params: Any) -> optax.OptState:
        """Plain optax state; moments have the structure (and the boxes, if any) of `params`."""
        unused = dict.fromkeys(("b1", "b2", "eps", "clip_norm"), jnp.float32(0.0))
        return self._transform(unused).init(params)

    def update(
        self, grads: Any, opt_state: optax.OptState, params: Any, step: Any, hparams: Hparams
    ) -> tuple[Any, optax.OptState, Info]:
        """One update. `step` counts the updates already done; `hparams` are traced scalars.

        Returns the new parameters, the new state, and scalars worth recording: `grad_norm`
        (global, before clipping), `update_norm` (of the change made to the parameters), `lr`.
        """
        factor = schedule(step, hparams, self.schedule)
        lr = hparams["peak_lr"] * factor
        # What multiplies weight_decay * p. Not lr / peak_lr: the peak may be 0.
        shrink = factor if self.independent_weight_decay else lr
        if self.offload:
            opt_state = on_device(opt_state)
        directions, opt_state = self._transform(hparams).update(grads, opt_state, params)

        def change(path: tuple[Any, ...], u: jax.Array, p: jax.Array) -> jax.Array:
            u = -lr * u
            return u - shrink * hparams["weight_decay"] * p if decays(path) else u

        changes = jax.tree_util.tree_map_with_path(change, directions, params)
        info = {
            "grad_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(changes),
            "lr": lr,
        }
        if self.offload:
            opt_state = _moved(opt_state, jax.memory.Space.Host)
        return optax.apply_updates(params, changes), opt_state, info


def offloads(leaf: Any) -> bool:
    """Whether a leaf of the optimizer's state is one that offloading moves: any but a counter."""
    return leaf.ndim > 0


def _moved(opt_state: optax.OptState, space: Any) -> optax.OptState:
    """The state with its arrays in a `jax.memory.Space`."""
    return jax.tree.map(lambda x: jax.device_put(x, space) if offloads(x) else x, opt_state)


def on_device(opt_state: optax.OptState) -> optax.OptState:
    """An offloaded state where it can be computed with."""
    return _moved(opt_state, jax.memory.Space.Device)


def build(config: OptimConfig) -> Optimizer:
    """The optimizer that the structural fields of `config` describe."""
    return Optimizer(
        name=config.name,
        schedule=config.schedule,
        clip=config.clip_norm is not None,
        independent_weight_decay=config.independent_weight_decay,
        offload=config.offload,
    )


def decays(path: tuple[Any, ...]) -> bool:
    """Whether weight decay applies to the leaf at a tree path: matrices and embeddings, by name."""
    names = [str(entry.key) for entry in path if hasattr(entry, "key")]  # without boxes' fields
    return not names or names[-1] not in NOT_DECAYED


def ema_update(ema: Any, params: Any, hparams: Hparams) -> Any:
    """Exponential average of the weights after one more update: d ema + (1 - d) params."""
    d = hparams["ema_decay"]
    return jax.tree.map(lambda e, p: d * e + (1.0 - d) * p, ema, params)
