"""What the tests of the loop compare: the lines of a run, and its final state on disk."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from scaling.records import RunDirectory


def lines(run: RunDirectory) -> list[dict]:
    """metrics.jsonl without its wall-clock fields."""
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.metrics()]


def final_state(run: RunDirectory) -> list[np.ndarray]:
    """Every leaf of the newest checkpoint's state."""
    with ocp.CheckpointManager(run.path / "checkpoints") as manager:
        state = manager.restore(
            manager.latest_step(), args=ocp.args.Composite(state=ocp.args.StandardRestore())
        )["state"]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
