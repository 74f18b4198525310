"""The instant before an update: the very state and batch that a step of a run begins with.

Takes a config or a run directory and the number of an update, counted from 1 as the lines of
`metrics.jsonl` count them; gives an `Instant`. Nothing is written. Called by `launch.py debug`.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from scaling import data, families
from scaling.config import MeshConfig, RunConfig, programs
from scaling.debug.replay import Replayer
from scaling.devices import meshes, sharding
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.train import checkpoint
from scaling.train.spikes import Spikes
from scaling.train.state import Parts, TrainState, parts

Array = jax.Array


@dataclass(frozen=True)
class Instant:
    """What the update number `step` depends on, on one device."""

    config: RunConfig  # in the form that is looked into (`plain`)
    step: int  # the update, from 1
    state: TrainState  # after the updates before it
    batch: dict[str, Array]
    notes: tuple[str, ...] = ()  # how it came about

    @property
    def pieces(self) -> Parts:
        """Model, objective and optimizer."""
        return parts(self.config)

    @property
    def hparams(self) -> dict[str, Array]:
        """Of the update (`programs.hparams`)."""
        return {name: jnp.asarray(value) for name, value in programs.hparams(self.config).items()}

    @property
    def key(self) -> Array:
        """Random key of the update, as the step makes it."""
        return jax.random.fold_in(jax.random.key(self.hparams["seed"]), self.state.step)

    def here(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, called on the mesh of one device that the run's axes then lie on."""

        @functools.wraps(function)
        def called(*args: Any) -> Any:
            with sharding.context(mesh_of_one()):
                return function(*args)

        return called


def mesh_of_one() -> jax.sharding.Mesh:
    """Every axis of size 1."""
    return meshes.make_mesh(MeshConfig(), jax.devices()[:1])


def alone(config: RunConfig) -> RunConfig:
    """The run on one device, otherwise executed as it says."""
    train = dataclasses.replace(config.train, xla_flags="none")
    return dataclasses.replace(config, mesh=MeshConfig(), train=train)


def plain(config: RunConfig) -> RunConfig:
    """The same function in its plainest form: blocks unrolled, nothing rematerialised, the batch in
    one piece, the moments on the device.
    """
    model = families.unrolled(config.model)
    train = dataclasses.replace(config.train, microbatches=1, steps_per_call=1)
    optimizer = dataclasses.replace(config.optim, offload=False)
    return dataclasses.replace(alone(config), model=model, train=train, optim=optimizer)


def of_config(config: RunConfig, step: int = 1) -> Instant:
    """Of a resolved run that need not have been trained: from its first state, `step - 1` updates
    are made here.
    """
    return _go_to(Replayer(_calm(config), jax.devices()[:1]), config, step, Spikes(config, []))


def of_run(
    directory: RunDirectory,
    step: int | None = None,
    change: Callable[[RunConfig], RunConfig] = lambda config: config,
) -> Instant:
    """Of a run in its directory, from its newest checkpoint before the step, or from nothing.

    Args:
      step: None: the one at which the run diverged; of another run, the one after its newest
        checkpoint.
      change: of the config that the run has recorded, in which the step is looked into; its state
        is that of the run as it was trained.
    """
    recorded = directory.config()
    path, status = directory.path / "checkpoints", directory.status()
    saved = checkpoint.steps(path)
    if step is None:
        diverged = status.get("state") == "diverged"
        step = int(status["step"]) + 1 if diverged else max(saved, default=0) + 1
    replayer = Replayer(_calm(recorded), jax.devices()[:1], directory.path.parent)
    began = max((s for s in saved if s < step), default=0)
    load = (lambda: replayer.load(path / str(began))) if began else None
    spikes = Spikes(recorded, directory.spikes())
    found = _go_to(replayer, change(recorded), step, spikes, began, load)
    notes = list(found.notes)
    devices = directory.record()["provenance"].get("device_count") or 1
    if devices > 1:
        notes.append(f"the run was trained on {devices} devices, and is looked into on one")
    line = next((m for m in directory.metrics() if _is(m, found.step)), None)
    if line is not None:
        notes.append(f"recorded then: loss {line['loss']:.6g}, grad_norm {line['grad_norm']:.6g}")
    return dataclasses.replace(found, notes=tuple(notes))


def _is(line: dict[str, Any], step: int) -> bool:
    return line["step"] == step and line["split"] == "train"


def _calm(config: RunConfig) -> RunConfig:
    """As it is executed, but for what watches: on one device, without a profiler or hashes."""
    config = alone(config)
    train = dataclasses.replace(config.train, profile_start=None, fingerprint_every=None)
    return dataclasses.replace(config, train=train)


def _go_to(
    replayer: Replayer,
    config: RunConfig,
    step: int,
    spikes: Spikes,
    began: int = 0,
    load: Callable[[], TrainState] | None = None,
) -> Instant:
    """From the state after `began` updates to that before update `step`, or to the first step on
    the way whose loss or gradient is not finite; `config`: in which it is looked into.
    """
    if step < 1:
        raise UserError(f"--step={step}: steps are counted from 1, the first update")
    state = (load or replayer.begin)()
    for after, due in replayer.calls(state, began, step - 1, spikes):
        state = after
        if due.problem is not None:
            found = _go_to(replayer, config, due.problem.step + 1, spikes, began, load)
            said = f"step {step} comes after the first that is not finite, which is looked into"
            return dataclasses.replace(found, notes=(*found.notes, said))
    notes = [f"from the checkpoint of step {began}" if began else "from the initial state"]
    if step - 1 > began:
        notes.append(f"{step - 1 - began} updates made again")
    row = data.train_batches(config).batch(spikes.batch_of(step - 1))
    batch = {name: jnp.asarray(values) for name, values in row.items()}
    return Instant(plain(config), step, state, batch, tuple(notes))
