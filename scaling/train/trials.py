"""The programs of a packed group: the states of many runs as one, on a leading `trial` axis.

Takes the config that the runs share (`program`) and a mesh; gives jitted functions that make,
step, evaluate and take apart a stack of train states. The step itself is `step.train_step`, as for
one run. Two forms of one program: "vmap" does all trials at once, in wider operations; "loop" does
those of a device one after the other. Called by `packed.py` and `executors/packing.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.config import DistributedConfig, MeshConfig, RunConfig, programs, to_dict
from scaling.devices import meshes, sharding, xla_flags
from scaling.train import forms, passes
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.state import Layout, Parts, TrainState
from scaling.train.step import Batch, train_step, train_steps

Form = Literal["vmap", "loop"]
_ROWS = PartitionSpec("trial", meshes.BATCH_AXES)
_STEPS_ROWS = PartitionSpec("trial", None, meshes.BATCH_AXES)


def program(config: RunConfig) -> RunConfig | None:
    """What a run's program depends on: runs for which it is equal can be packed. None: it cannot.

    Beside the values of `programs.hparams` these are free: the order and the amount of data, the
    length, when the run evaluates, logs and saves.
    """
    train = config.train
    if train.profile_start is not None or train.spike_z is not None or config.optim.offload:
        return None  # they stop, turn back or place the state of one run
    if train.watch_every is not None:
        return None  # a program of its own looks into the state of one run
    if config.model.remat == "offload":
        return None
    same = programs.program_of(config)
    rhythm: dict[str, Any] = dict.fromkeys(("log_every", "keep_checkpoints"), 1)
    return dataclasses.replace(
        same,
        data=programs.any_examples(same),
        train=dataclasses.replace(same.train, checkpoint_every=None, **rhythm),
        evals=dataclasses.replace(same.evals, every=None),
        distributed=DistributedConfig(),
    )


def mesh_of(config: MeshConfig, devices: Sequence[Any], members: int) -> MeshConfig:
    """The mesh of a group: devices that no axis asks for go to `trial`, not to `data`, as far as
    there are members for them.
    """
    if config.data is not None or config.trial > 1:
        return config
    used = int(np.prod([size for size in to_dict(config).values() if size is not None]))
    free = max(1, len(devices) // used)
    trial = max(ways for ways in range(1, min(free, members) + 1) if free % ways == 0)
    return dataclasses.replace(config, trial=trial)


def form_of(platform: str) -> Form:
    """The faster form: a CPU's batched small matmuls are slower than one after the other; an
    accelerator is idle between the small operations of one run (`docs/sweeps.md` has numbers).
    """
    return "loop" if platform == "cpu" else "vmap"


@dataclass(frozen=True)
class Trials:
    """The arrays and the programs of a group; `slots` states are stacked.

    A slot without a run is stepped zero times, and costs nothing in the form "loop".
    """

    pieces: Parts
    config: RunConfig  # of any member
    plan: Layout  # of one member, on every device of the mesh along `trial`
    slots: int  # a multiple of mesh.trial
    form: Form

    @property
    def mesh(self) -> Mesh:
        """With the members along `trial`."""
        return self.plan.mesh

    @functools.cached_property
    def shardings(self) -> TrainState:
        """Of the stack."""
        return jax.tree.map(lambda s: _stacked(s), self.plan.shardings)

    def place_batches(self, batches_TxK: Any, rows_first: bool = False) -> Any:
        """Stacked batches [T, K, B, L] on the mesh; [T, B, L] with `rows_first`."""
        spec = _ROWS if rows_first else _STEPS_ROWS
        return place(batches_TxK, NamedSharding(self.mesh, spec))

    def place_values(self, values_T: Any) -> Any:
        """Numbers [T], one a slot, on the mesh."""
        return place(values_T, self._values)

    @property
    def _values(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("trial"))

    @property
    def _told(self) -> NamedSharding:
        """Of what is fetched: with several hosts, whole on each, so that all decide alike."""
        hosts = {device.process_index for device in self.mesh.devices.flat}
        return sharding.replicated(self.mesh) if len(hosts) > 1 else self._values

    @functools.cached_property
    def here(self) -> frozenset[int]:
        """The slots that this host's devices hold, or a part of each of them."""
        lies = self._values.addressable_devices_indices_map((self.slots,))
        held = (range(self.slots)[index[0]] for index in lies.values() if index is not None)
        return frozenset(slot for slots in held for slot in slots)

    # ---- states in and out of the stack

    def empty(self) -> TrainState:
        """A stack of zeros."""
        shapes = sharding.unbox(self.plan.boxed)
        return jax.jit(lambda: forms.zeros(shapes, self.slots), out_shardings=self.shardings)()

    @functools.cached_property
    def insert(self) -> Callable[[TrainState, jax.Array, TrainState], TrainState]:
        """`(stack, slot, state) -> stack`; the stack is donated."""

        def local(stack: TrainState, slot: jax.Array, state: TrainState) -> TrainState:
            number, mine = self._local(slot)

            def put(all_: jax.Array, one: jax.Array) -> jax.Array:
                kept = jax.lax.dynamic_index_in_dim(all_, number, keepdims=False)
                one = jnp.where(mine, one, kept)
                return jax.lax.dynamic_update_index_in_dim(all_, one, number, 0)

            return jax.tree.map(put, stack, state)

        whole, split = PartitionSpec(), PartitionSpec("trial")
        return jax.jit(
            self._mapped(local, (split, whole, whole), split),
            in_shardings=(self.shardings, sharding.replicated(self.mesh), self.plan.shardings),
            out_shardings=self.shardings,
            donate_argnums=0,
        )

    @functools.cached_property
    def extract(self) -> Callable[[TrainState, jax.Array], TrainState]:
        """`(stack, slot) -> state` as `plan` lays it out."""

        def local(stack: TrainState, slot: jax.Array) -> TrainState:
            number, mine = self._local(slot)

            def take(all_: jax.Array) -> jax.Array:
                one = jax.lax.dynamic_index_in_dim(all_, number, keepdims=False)
                if self.mesh.shape["trial"] == 1:
                    return one
                return jax.lax.psum(jnp.where(mine, one, jnp.zeros_like(one)), "trial")

            return jax.tree.map(take, stack)

        whole, split = PartitionSpec(), PartitionSpec("trial")
        return jax.jit(
            self._mapped(local, (split, whole), whole),
            in_shardings=(self.shardings, sharding.replicated(self.mesh)),
            out_shardings=self.plan.shardings,
        )

    def _local(self, slot: jax.Array) -> tuple[jax.Array, Any]:
        """A slot's number among those of this device, and whether it is one of them."""
        if self.mesh.shape["trial"] == 1:
            return slot, True
        here = self.slots // self.mesh.shape["trial"]
        return slot % here, jax.lax.axis_index("trial") == slot // here

    def _mapped(self, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
        """`function` of the slots of each place along `trial`, by itself."""
        if self.mesh.shape["trial"] == 1:
            return function
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            axis_names={"trial"},
            check_vma=False,
        )

    # ---- the step

    def compile_steps(self) -> jax.stages.Wrapped:
        """`(stack, batches_TxK, counts_T, longest, hparams_T) -> (stack, metrics_TxK)`, the stack
        donated.

        Slot t makes counts_T[t] <= K updates, on the first of its K batches, and is otherwise left
        as it is; `longest` is the largest count.
        """
        train = self.config.train
        step = functools.partial(
            train_step, self.pieces, train.microbatches, fingerprint_every=train.fingerprint_every
        )
        steps = jax.jit(  # traced once, as in `train_steps`
            functools.partial(
                train_steps,
                self.pieces,
                train.microbatches,
                fingerprint_every=train.fingerprint_every,
            ),
            inline=True,
        )
        whole, split = PartitionSpec(), PartitionSpec("trial")
        if self.form == "vmap":
            call = functools.partial(forms.at_once, jax.vmap(step, spmd_axis_name="trial"))
        else:
            call = self._mapped(
                functools.partial(forms.one_by_one, steps),
                (split, split, split, whole, split),
                split,
            )
        values = self._values
        batches = NamedSharding(self.mesh, _STEPS_ROWS)
        return jax.jit(
            call,
            in_shardings=(
                self.shardings,
                batches,
                values,
                sharding.replicated(self.mesh),
                values,
            ),
            out_shardings=(self.shardings, self._told),
            donate_argnums=0,
            compiler_options=xla_flags.options(train.xla_flags, self.mesh.devices.flat[0].platform),
        )

    def compile_rows(self, function: passes.Function, given: int = 0) -> jax.stages.Wrapped:
        """`(params_T, batch_T, wanted_T, *given_T) -> arrays [T, ...]`, of a function of a slot's
        parameters, batch and so many given things; what is not wanted is not computed in the form
        "loop", and of no use in either.
        """

        def one_by_one(params_T: Any, batch_T: Batch, wanted_T: jax.Array, *given_T: Any) -> Any:
            own_T = (params_T, batch_T, *given_T)
            shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], own_T))

            def one(slot: tuple[jax.Array, tuple[Any, ...]]) -> Any:
                wanted, own = slot
                return jax.lax.cond(wanted, lambda: function(*own), lambda: forms.zeros(shapes))

            return jax.lax.map(one, (wanted_T, own_T))

        def at_once(params_T: Any, batch_T: Batch, wanted_T: jax.Array, *given_T: Any) -> Any:
            return jax.vmap(function, spmd_axis_name="trial")(params_T, batch_T, *given_T)

        split = PartitionSpec("trial")
        call = at_once if self.form == "vmap" else self._mapped(one_by_one, split, split)
        return jax.jit(
            call,
            in_shardings=(
                self.shardings.params,
                NamedSharding(self.mesh, _ROWS),
                self._values,
                *(self._values,) * given,
            ),
            out_shardings=self._told,
        )


def trials(config: RunConfig, mesh: Mesh, members: int, form: Form | None = None) -> Trials:
    """The programs of a group of `members` runs like `config` on a mesh.

    Raises ConfigError where the state or a batch does not divide over the mesh.
    """
    meshes.check_batch(config, mesh)
    pieces, ways = state_lib.parts(config), mesh.shape["trial"]
    return Trials(
        pieces=pieces,
        config=config,
        plan=state_lib.layout(pieces, config, mesh),
        slots=-(-members // ways) * ways,
        form=form or form_of(mesh.devices.flat[0].platform),
    )


def _stacked(where: NamedSharding) -> NamedSharding:
    return NamedSharding(where.mesh, PartitionSpec("trial", *where.spec))
