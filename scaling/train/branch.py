"""The beginning of a branch: a run directory that its own command goes on with.

When a trunk reaches the step at which a branch leaves it, its state and its lines up to there
become the branch's: `config.json`, `metrics.jsonl`, a checkpoint, and `branch.json`, which names
the trunk. Everything after that is an ordinary resume. Called by the loop.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax

from scaling.config import RunConfig, amounts, run_name
from scaling.devices import distributed
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.train.checkpoint import Checkpoints
from scaling.train.state import TrainState


def begin(
    config: RunConfig,
    trunk: RunDirectory,
    state: TrainState,
    step: int,
    provenance: Mapping[str, Any],
    size: Mapping[str, Any],
) -> bool:
    """Begin a branch from the trunk's state after `step` updates; every process calls this.

    Args:
      config: the branch's, resolved.
      trunk: the directory of the trunk, whose lines up to `step` are written.
      state: on the mesh.
      step: updates that the branch shares with the trunk.
      provenance: of the trunk's process, for the branch's config.json.
      size: of the branch, likewise.

    Returns whether it was begun now: a branch that has a state of its own, or that another process
    holds, is left alone.
    """
    run, first = RunDirectory(trunk.path.parent / run_name(config)), jax.process_index() == 0
    with contextlib.ExitStack() as held:
        try:
            with distributed.together():
                if first:
                    held.enter_context(run.lock())
        except UserError:
            return False
        with Checkpoints(run.path / "checkpoints", config) as checkpoints:
            begun = checkpoints.any() or run.status().get("state") in ("done", "diverged")
            if distributed.gather(begun)[0]:
                return False
            with distributed.together():
                if first:
                    run.start(config, provenance, size)
                    run.truncate(-1)
                    run.append(*(line for line in trunk.metrics() if line["step"] <= step))
                    for at, hashes in trunk.hashes().items():
                        if at <= step:
                            run.append_hashes(at, hashes)
                    run.write_branch(trunk.path.name, step)
            checkpoints.save(step, state)
            checkpoints.wait()
        if first:
            steps = amounts.resolved(config.train.steps)
            reason = f"begun from {trunk.path.name} at step {step}; the same command goes on"
            run.write_status("stopped", step=step, steps=steps, reason=reason)
    return True
