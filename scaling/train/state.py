"""The train state and how it comes to exist, sharded, on a mesh.

`parts` builds the pure pieces of a run (model, objective, optimizer) from its config. `Layout`
holds what follows from them and a mesh: the shapes and the sharding of every leaf. The state is
created by one jitted function with sharded outputs, so no leaf ever exists whole on one device by
accident.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from scaling import optim
from scaling.config import RunConfig, choices
from scaling.costs import counts
from scaling.devices import meshes, sharding
from scaling.objectives import objective as objective_lib
from scaling.optim import subtree
from scaling.train.attack import attacked
from scaling.train.augment import preparation
from scaling.train.placement import place
from scaling.transforms import transform
from scaling.transforms.beside import alone


@flax.struct.dataclass
class TrainState:
    """Everything that the next step depends on; `step` updates have been made."""

    step: jax.Array  # int32 scalar
    params: Any  # as stored (`scaling/transforms`)
    opt_state: Any  # of those that are trained
    ema: Any  # averages of those that are trained, or None

    @property
    def evaluated(self) -> Any:
        """The parameters, as stored, that evaluation takes: averaged ones where there are."""
        return self.params if self.ema is None else subtree.put(self.params, self.ema)


@dataclass(frozen=True)
class Parts:
    """The pure pieces of a run."""

    model: transform.Model  # takes the parameters as stored
    objective: objective_lib.Loss
    optimizer: optim.Optimizer | optim.Optimizers
    # (parameters, or gradients of them) -> the part of them that is trained
    trained: Callable[[Any], Any] = lambda params: params
    parametrization: optim.Parametrization | None = None  # of the parameters as stored
    noise: bool = False  # whether a step measures the noise of its gradient (`noise.py`)
    # (batch, key of the step) -> the batch that is trained on; None: as it is (`augment.py`)
    prepare: Callable[[Any, jax.Array], Any] | None = None
    # (loss of a batch, batch) -> the batch moved to where the loss is larger; None: as it is
    attack: Callable[[Callable[[Any], jax.Array], Any], Any] | None = None
    # (norm that each row's gradient is clipped to, deviation of the sum's noise); None: neither
    privacy: tuple[float, float] | None = None
    anchored: bool = False  # whether what an earlier task left pulls at them
    federated: tuple[int, int] | None = None  # (clients, local steps) of a round; None: one step
    stored: transform.Functions | None = None  # of the parameters, and what follows an update

    def prepared(self, batch: Any, rng: jax.Array) -> Any:
        """What the loss of a training step takes."""
        return batch if self.prepare is None else self.prepare(batch, rng)


def parts(config: RunConfig) -> Parts:
    """Model, objective and optimizer of a resolved run; no arrays yet."""
    scale, most = transform.parametrization(config), config.privacy.clip_norm
    return Parts(
        model=transform.build(config),
        objective=objective_lib.build(config.objective, config.distill),
        optimizer=optim.build(config.optim, choices.objective(config.objective).players, scale),
        trained=transform.trained(config),
        parametrization=scale,
        noise=config.train.noise_scale,
        prepare=preparation(config),
        attack=functools.partial(attacked, epsilon=config.attack.epsilon, steps=config.attack.steps)
        if config.attack.epsilon
        else None,
        privacy=None if most is None else (most, most * config.privacy.noise),
        anchored=config.ewc.weight > 0,
        federated=None
        if config.federated.clients is None
        else (config.federated.per_round, config.federated.local_steps),
        stored=transform.functions(config),
    )


def create(
    pieces: Parts, config: RunConfig, seed: jax.Array, scale: jax.Array | float = 1.0
) -> TrainState:
    """The state after 0 updates, with linen's boxes around the parameters and their moments.

    `seed` and `scale` (model.init_scale) are values, not shapes: runs that differ in them share the
    program.
    """
    # Parameters do not depend on the batch's size, so one row of the shapes is enough.
    row = {
        name: jnp.zeros((1, *s.shape[1:]), s.dtype)
        for name, s in counts.batch_shapes(config).items()
    }
    params = pieces.model.init(jax.random.key(seed), row)["params"]
    params = jax.tree_util.tree_map_with_path(
        # Scales of norms begin at 1, whatever the matrices do. What is no number is not scaled.
        lambda path, p: p * scale if optim.decays(path) and p.dtype != bool else p,
        params,
    )
    if pieces.parametrization is not None:
        own = pieces.parametrization.applied("init", alone(params))
        params = params | own
    trained = pieces.trained(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=pieces.optimizer.init(trained),
        # A copy: the two trees are donated together, and one buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, trained) if optim.averages(config.optim) else None,
    )


@dataclass(frozen=True)
class Layout:
    """Shapes (boxed) and shardings (plain) of the state on a mesh."""

    mesh: jax.sharding.Mesh
    boxed: TrainState
    shardings: TrainState

    @property
    def abstract(self) -> TrainState:
        """ShapeDtypeStructs with shardings: what a checkpoint is restored into."""
        return jax.tree.map(
            lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
            sharding.unbox(self.boxed),
            self.shardings,
        )


def layout(pieces: Parts, config: RunConfig, mesh: jax.sharding.Mesh) -> Layout:
    """Plan the state on the mesh; raises ConfigError where an axis does not divide, and where the
    optimizer's state is to lie in host memory that the devices do not have.
    """
    with sharding.context(mesh):
        boxed = jax.eval_shape(lambda seed: create(pieces, config, seed), np.uint32(config.seed))
    shardings = sharding.state_shardings(boxed, mesh)
    if config.model.remat == "offload":
        meshes.check_host_memory(mesh, "model.remat=offload")
    if config.optim.offload:
        meshes.check_host_memory(mesh, "optim.offload=True")
        moved = jax.tree.map(
            lambda leaf, s: s.with_memory_kind(meshes.HOST) if optim.offloads(leaf) else s,
            sharding.unbox(boxed).opt_state,
            shardings.opt_state,
        )
        shardings = shardings.replace(opt_state=moved)
    return Layout(mesh, boxed, shardings)


def compile_init(pieces: Parts, config: RunConfig, plan: Layout) -> Callable[..., TrainState]:
    """`(seed, scale) -> state`: a new state on the mesh, every leaf created where it lives.

    Compiled even where jax is told not to: flax's scan over layers draws other numbers eagerly.
    """

    def make(seed: jax.Array, scale: jax.Array) -> TrainState:
        return sharding.unbox(create(pieces, config, seed, scale))

    compiled = jax.jit(make, out_shardings=plan.shardings)

    def init(seed: jax.Array, scale: jax.Array) -> TrainState:
        with jax.disable_jit(False):
            return compiled(seed, scale)

    return init


def init(pieces: Parts, config: RunConfig, plan: Layout) -> TrainState:
    """The state that a run begins with."""
    with sharding.context(plan.mesh):
        return compile_init(pieces, config, plan)(*start_values(config, plan.mesh))


def start_values(config: RunConfig, mesh: jax.sharding.Mesh) -> tuple[jax.Array, jax.Array]:
    """What `compile_init` takes: the seed and the scale of a run, on the mesh."""
    return place(
        (np.uint32(config.seed), np.float32(config.model.init_scale)), sharding.replicated(mesh)
    )
