"""Optimizers as pure functions of traced hyper-parameters.

Takes an `OptimConfig`: its structural fields (which optimizer, which schedule, is clipping on) make
an `Optimizer`; every number is an entry of `hparams` (`config/programs.py`), a small dict of
scalars that the jitted step takes as an argument. Runs that differ in numbers only share one
compilation, and a stack of `hparams` can be mapped over. Called by `scaling/train/step.py`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from scaling.config import OptimConfig
from scaling.optim import subtree
from scaling.optim.muon import muon
from scaling.optim.parametrization import Parametrization
from scaling.optim.roles import decays, moves
from scaling.optim.schedules import Hparams, schedule

Info = dict[str, jax.Array]


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


def _adagrad(h: Hparams) -> optax.GradientTransformation:
    return optax.scale_by_rss(initial_accumulator_value=0.0, eps=jnp.square(h["eps"]))


def _rms(h: Hparams) -> optax.GradientTransformation:
    """AdamW without a momentum: `schedule_free` has an average in its place."""
    return optax.scale_by_rms(h["b2"], h["eps"], eps_in_sqrt=False, bias_correction=True)


OPTIMIZERS = {
    "adamw": _adamw,
    "adafactor": _adafactor,
    "lion": _lion,
    "sgd": _sgd,
    "adagrad": _adagrad,
    "schedule_free": _rms,
}
BY_ROLE = {"muon": muon}  # those that must know what each parameter is


@dataclass(frozen=True)
class Optimizer:
    """The shape of an update: which transforms, in which order. Holds no numbers.

    An update adds the penalties' gradient to the loss's, clips it by its global norm, preconditions
    it, adds the decoupled weight decay, and steps against it:

        p <- p - lr * (u + weight_decay * p)               decay tied to the learning rate
        p <- p - lr * u - (lr / peak_lr) * weight_decay * p   independent of its height

    Of a parametrization every leaf has a multiplier of its step lr * u, not of its decay.

    "schedule_free" (Defazio et al. 2024, arXiv 2405.15682) makes these steps from z, evaluates the
    average x of what they reach, weighted by lr^2, and takes gradients and decay at the parameters
    that are trained, y = (1 - b1) z + b1 x.
    """

    name: str  # key of OPTIMIZERS, or of BY_ROLE
    schedule: str  # see `schedule`
    clip: bool  # clip by hparams["clip_norm"]
    independent_weight_decay: bool
    offload: bool = False  # between updates the moments lie in the host's memory
    parametrization: Parametrization | None = None  # None: every multiplier is 1
    l1: bool = False  # the loss has hparams["l1"] times sum |p| over what is decayed
    l2: bool = False  # likewise hparams["l2"] / 2 times sum p^2

    def _transform(self, h: Hparams) -> optax.GradientTransformation:
        before = [optax.clip_by_global_norm(h["clip_norm"])] if self.clip else []
        found = self.parametrization
        if found is not None and found.varies("epsilon"):
            before.append(optax.stateless(lambda grads, _: found.applied("epsilon", grads, -1)))
        if self.name in BY_ROLE:
            if found is None:
                raise ValueError(f"{self.name} needs the roles of the parameters")
            return optax.chain(*before, BY_ROLE[self.name](h, found.by_path))
        return optax.chain(*before, OPTIMIZERS[self.name](h))

    def init(self, params: Any) -> optax.OptState:
        """Plain optax state; moments have the structure (and the boxes, if any) of `params`."""
        unused = dict.fromkeys(("b1", "b2", "eps", "clip_norm"), jnp.float32(0.0))
        found = self._transform(unused).init(params)
        return (found, _averaged(unused, 0.0).init(params)) if self.free else found

    @property
    def free(self) -> bool:
        """Whether it averages by itself what is evaluated."""
        return self.name == "schedule_free"

    def average(self, ema: Any, params: Any, opt_state: optax.OptState, hparams: Hparams) -> Any:
        """The weights that are evaluated after one more update, of those that are trained: `ema` is
        those before it.
        """
        if not self.free:
            return ema_update(ema, params, hparams)
        b1, z = hparams["b1"], opt_state[1].z
        return jax.tree.map(lambda y, z: (y - (1 - b1) * z) / b1, subtree.like(params, ema), z)

    def update(
        self, grads: Any, opt_state: optax.OptState, params: Any, step: Any, hparams: Hparams
    ) -> tuple[Any, optax.OptState, Info]:
        """One update. `step` counts the updates already done; `hparams` are traced scalars.

        `grads` and the state may be of a part of the parameters (`subtree.py`); the others stay.

        Returns the new parameters, the new state, and scalars worth recording: `grad_norm`
        (global, before clipping, penalties included), `update_norm` (of the change made to the
        parameters), `lr`.
        """
        factor = schedule(step, hparams, self.schedule)
        lr = hparams["peak_lr"] * factor
        # What multiplies weight_decay * p. Not lr / peak_lr: the peak may be 0.
        shrink = factor if self.independent_weight_decay else lr
        if self.offload:
            opt_state = on_device(opt_state)
        inner, free = opt_state if self.free else (opt_state, None)
        trained = subtree.like(params, grads)
        if self.l1 or self.l2:
            grads = self._penalised(grads, trained, hparams)
        directions, inner = self._transform(hparams).update(grads, inner, trained)
        if self.parametrization is not None:
            directions = self.parametrization.applied("rate", directions)

        def change(path: tuple[Any, ...], u: jax.Array, p: jax.Array) -> jax.Array:
            u = -lr * u
            return u - shrink * hparams["weight_decay"] * p if decays(path) else u

        changes = jax.tree_util.tree_map_with_path(change, directions, trained)
        opt_state = inner
        if self.free:
            changes, free = _averaged(hparams, lr).update(changes, free, trained)
            opt_state = inner, free
        changes = jax.tree_util.tree_map_with_path(
            lambda path, u: u if moves(path) else jnp.zeros_like(u), changes
        )
        info = {
            "grad_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(changes),
            "lr": lr,
        }
        if self.offload:
            opt_state = on_host(opt_state)
        new = subtree.put(params, optax.apply_updates(trained, changes))
        return new, opt_state, info

    def _penalised(self, grads: Any, params: Any, hparams: Hparams) -> Any:
        """The gradient of the loss with its penalties; of a sum over pieces they are no part."""

        def of(path: tuple[Any, ...], grad: jax.Array, p: jax.Array) -> jax.Array:
            if not decays(path):
                return grad
            grad = grad + hparams["l1"] * jnp.sign(p) if self.l1 else grad
            return grad + hparams["l2"] * p if self.l2 else grad

        return jax.tree_util.tree_map_with_path(of, grads, params)


def _averaged(h: Hparams, lr: Any) -> optax.GradientTransformation:
    """Of changes of z, those of y."""
    return optax.contrib.schedule_free(optax.identity(), lr, h["b1"])


def restarted(opt_state: optax.OptState, params: Any) -> optax.OptState:
    """The state of no updates of other parameters: what it has a copy of is theirs."""

    def is_copy(node: Any) -> bool:
        return isinstance(node, optax.contrib.ScheduleFreeState)

    def of(node: Any) -> Any:
        if not is_copy(node):
            return node
        return node._replace(z=jax.tree.map(jnp.copy, subtree.like(params, node.z)))

    return jax.tree.map(of, opt_state, is_leaf=is_copy)


def averages(config: OptimConfig) -> bool:
    """Whether other weights than those that are trained are evaluated."""
    return config.ema_decay is not None or config.name == "schedule_free"


def offloads(leaf: Any) -> bool:
    """Whether a leaf of the optimizer's state is one that offloading moves: any but a counter."""
    return leaf.ndim > 0


def _moved(opt_state: optax.OptState, space: Any) -> optax.OptState:
    """The state with its arrays in a `jax.memory.Space`."""
    return jax.tree.map(lambda x: jax.device_put(x, space) if offloads(x) else x, opt_state)


def on_device(opt_state: optax.OptState) -> optax.OptState:
    """An offloaded state where it can be computed with."""
    return _moved(opt_state, jax.memory.Space.Device)


def on_host(opt_state: optax.OptState) -> optax.OptState:
    """A state where it lies between updates, if it is offloaded."""
    return _moved(opt_state, jax.memory.Space.Host)


def build(config: OptimConfig, parametrization: Parametrization | None = None) -> Optimizer:
    """The optimizer that the structural fields of `config` describe, of all parameters."""
    return Optimizer(
        name=config.name,
        schedule=config.schedule,
        clip=config.clip_norm is not None,
        independent_weight_decay=config.independent_weight_decay,
        offload=config.offload,
        parametrization=parametrization,
        l1=config.l1 != 0.0,
        l2=config.l2 != 0.0,
    )


def ema_update(ema: Any, params: Any, hparams: Hparams) -> Any:
    """Exponential average of the weights after one more update: d ema + (1 - d) params. Of those
    that are trained: `ema` may be a part of the parameters.
    """
    d = hparams["ema_decay"]
    return jax.tree.map(lambda e, p: d * e + (1.0 - d) * p, ema, subtree.like(params, ema))
