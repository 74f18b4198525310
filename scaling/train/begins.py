"""The first state of a run that begins with another run's parameters.

Takes a run's own first state and the folder where the other one lies; gives the state with that
one's parameters, as it was evaluated at its end, in the place of those that were drawn. The
optimizer and the count of steps begin anew. Called wherever a run begins at step 0: by the loop,
the packed loop and the debugger.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from scaling import files
from scaling.config import RunConfig
from scaling.errors import CheckpointError, UserError
from scaling.objectives.distillation import TEACHER
from scaling.optim import restarted, subtree
from scaling.records import RunDirectory, parents
from scaling.records.status import repeat_command
from scaling.train import checkpoint, consolidation
from scaling.train import state as state_lib
from scaling.train.state import Layout, TrainState
from scaling.transforms import transform
from scaling.transforms.beside import ANCHOR, alone

_NAMED = 3  # leaves that an error lists


def begin(
    state: TrainState, config: RunConfig, plan: Layout, runs: epath.Path | None
) -> TrainState:
    """The state that a run begins with: `state` itself, unless it begins with another run, or its
    transform looks at what it begins with.

    Args:
      state: the run's own, after 0 updates.
      config: of the run, resolved.
      plan: of its state.
      runs: folder of run directories.

    Raises UserError where the other run is not there or has not reached its end, and where one of
    the run's parameters has no like there and is not listed in `begins.new`.
    """
    if config.imported is not None:
        raise UserError(
            f"imported={config.imported}: weights that came from a folder are not there any more; "
            "bring them once more: launch.py import"
        )
    stored, taken = transform.functions(config), {}
    if config.begins.run is not None:
        found = ended(config, runs)
        theirs, held = _used(found, plan.mesh)
        if not config.distill.weight or config.distill.begin:
            taken = _matching(config, state.params, theirs, found)
        if config.ewc.weight:
            own = subtree.put(alone(state.params), taken)
            held_on = consolidation.anchor(config, found.config(), own, held, plan.mesh)
            taken = taken | {ANCHOR: held_on}
        if config.distill.weight:
            taken = taken | {TEACHER: theirs}
        if stored is not None and stored.earlier:
            earlier = _earlier(config, state.params, found, plan.mesh)
            state = dataclasses.replace(state, params=subtree.put(state.params, earlier))
    elif stored is None:
        return state

    def put(drawn: Any, ema: Any, taken: Any) -> tuple[Any, Any]:
        params = subtree.put(drawn, taken)
        if stored is not None:
            params = stored.begun(drawn, params)
        # Copies, as in `state.create`.
        return params, None if ema is None else jax.tree.map(jnp.copy, subtree.like(params, ema))

    where = plan.shardings.params, plan.shardings.ema
    params, ema = jax.jit(put, out_shardings=where)(state.params, state.ema, taken)
    # Copies of parameters are those that it begins with, not those that were drawn.
    restart = jax.jit(restarted, out_shardings=plan.shardings.opt_state)
    opt_state = restart(state.opt_state, params)
    return dataclasses.replace(state, params=params, ema=ema, opt_state=opt_state)


def _earlier(config: RunConfig, params: Any, found: RunDirectory, mesh: jax.sharding.Mesh) -> Any:
    """What the run that a run begins with began with itself. Raises UserError where that is nothing
    but what was drawn.
    """
    theirs = found.config()
    if theirs.begins.run is None:
        raise UserError(
            f"begins.run={config.begins.run}: {found.path} began with no other run, so that there "
            "are no earlier weights than those it drew; leave transform.rewind_to at its default, "
            "or give a run that went on from another"
        )
    first = ended(theirs, found.path.parent)
    return _matching(config, params, _used(first, mesh)[0], first)


def ended(config: RunConfig, runs: epath.Path | None) -> RunDirectory:
    """The run that a resolved one begins with, which has reached its end. Raises UserError."""
    given, found = f"begins.run={config.begins.run}", parents.find(config, runs)
    if found is None:
        where = f"in {runs}" if runs is not None else "known here"
        raise UserError(
            f"{given}: no run with this fingerprint is {where}; train it there first, or give its "
            "directory as begins.run"
        )
    status = found.status()
    if (state := status.get("state", "stopped")) != "done":
        at = f"at step {status.get('step', 0)} of {found.config().train.steps}"
        because = f" ({status['reason']})" if status.get("reason") else ""
        way = (
            "begin with another run"
            if state == "diverged"
            else f"bring it to its end first: {repeat_command(found)}"
        )
        raise UserError(f"{given}: {found.path} is {state} {at}{because}; {way}")
    return found


def _used(found: RunDirectory, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """On the mesh, the parameters of a run's last state as its evaluation used them, and the Fisher
    information that it held on to itself, or None.
    """
    config = found.config()
    optim = dataclasses.replace(config.optim, offload=False)
    here = dataclasses.replace(config, optim=optim)
    abstract = state_lib.layout(state_lib.parts(here), here, mesh).abstract
    path = found.path / "checkpoints"
    steps = checkpoint.steps(path)
    if config.train.steps not in steps:
        raise CheckpointError(
            f"{path} has no state after step {config.train.steps}, the run's last; it is done, so "
            "that training again makes none: move its directory away and train it anew"
        )
    there = files.absolute(path / str(config.train.steps))
    checkpoint.check_identity(there, ocp.JsonCheckpointHandler().restore(there / "identity"), here)
    # Of the state these alone: the moments are twice as large.
    wanted = {"params": abstract.params, "ema": abstract.ema}
    wanted = {name: tree for name, tree in wanted.items() if tree is not None}
    how = ocp.args.PyTreeRestore(
        wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    try:
        restored = ocp.PyTreeCheckpointHandler().restore(there / "state", args=how)
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        if not checkpoint.damaged(error):
            raise
        first, *_ = [*str(error).splitlines(), ""]
        raise CheckpointError(
            f"checkpoint {there} cannot be read ({type(error).__name__}: {first}); move its run's "
            "directory away and train it anew"
        ) from error
    params = subtree.put(restored["params"], restored.get("ema", {}))
    held = params[ANCHOR]["fisher"] if config.ewc.weight else None
    return jax.jit(lambda stored: transform.used(here, stored))(params), held


def _matching(config: RunConfig, params: Any, theirs: Any, found: RunDirectory) -> Any:
    """The part of another run's parameters that a run begins with. Raises UserError, naming them,
    for leaves of the run's that have no like there and are not said to be new.
    """
    ours = dict(subtree.leaves(jax.eval_shape(lambda p: transform.used(config, p), params)))
    there = dict(subtree.leaves(theirs))
    new = transform.check_patterns("begins.new", config.begins.new, list(ours))
    wanted = {path: leaf for path, leaf in ours.items() if not subtree.matches(path, new)}
    own = transform.own(config)
    missing = [path for path in wanted if path not in there and not own(path)]
    other = [
        f"{path} is {there[path].shape} there and {leaf.shape} here"
        for path, leaf in wanted.items()
        if path in there and there[path].shape != leaf.shape
    ]
    if missing or other:
        listed = [*(f"{path} is not there" for path in missing), *other]
        more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
        raise UserError(
            f"begins.run={config.begins.run}: of its parameters in {found.path} "
            f"{'; '.join(listed[:_NAMED])}{more}; list in begins.new what is to begin anew, or "
            "give the model the other run's fields"
        )
    if not wanted:
        raise UserError(
            f"begins.new={config.begins.new!r} leaves nothing to take from begins.run="
            f"{config.begins.run}; list less, or leave begins.run unset"
        )
    taken = subtree.nested({path: there[path] for path in wanted if path in there})
    # Those as used; a parametrization that multiplies where they are used stores others.
    scale = transform.parametrization(config)
    if scale is None or not scale.varies("forward"):
        return taken
    return scale.applied("forward", taken, power=-1)
