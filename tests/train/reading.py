"""What the tests of the loop compare: the lines of a run, and its final state on disk."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from scaling.records import RunDirectory
from scaling.train.checkpoint import steps


def lines(run: RunDirectory) -> list[dict]:
    """metrics.jsonl without its wall-clock fields."""
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.metrics()]


def final_state(run: RunDirectory) -> list[np.ndarray]:
    """Every leaf of the newest checkpoint's state, wherever it was saved."""
    path = run.path / "checkpoints" / str(max(steps(run.path / "checkpoints"))) / "state"
    handler = ocp.PyTreeCheckpointHandler()
    whole = ocp.RestoreArgs(restore_type=np.ndarray)
    args = jax.tree.map(lambda _: whole, handler.metadata(path).tree)
    state = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=args))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
