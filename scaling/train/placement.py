"""From a host's rows of a batch to one global array on the mesh: the only host-to-device copies.

Which rows a host reads follows from the batch's sharding, not from the host's number: along the
axes that do not split the batch (tensor, stage, ...) several hosts hold, and read, the same rows.
Called by the loop and the evaluation.
"""

from typing import Any

import jax
import numpy as np

from scaling.devices import sharding


def host_rows(batch_size: int, mesh: jax.sharding.Mesh) -> np.ndarray:
    """The rows of a global batch that this host's devices hold, ascending: int64 [rows]."""
    lies = sharding.batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    pieces = {index[0].indices(batch_size) for index in lies.values() if index is not None}
    return np.unique(np.concatenate([np.arange(*piece) for piece in pieces]))


def place(tree: Any, where: jax.sharding.Sharding) -> Any:
    """Arrays that every host has whole, on the mesh."""
    if jax.process_count() == 1:
        return jax.device_put(tree, where)
    return jax.tree.map(lambda x: _pieces(np.asarray(x), where), tree)


def place_rows(
    tree: Any, where: jax.sharding.Sharding, rows: np.ndarray, batch_size: int, axis: int
) -> Any:
    """Each host's arrays, of its `rows` (`host_rows`) along `axis`, joined into global batches."""
    if jax.process_count() == 1:
        return jax.device_put(tree, where)

    def join(x: np.ndarray) -> jax.Array:
        shape = (*x.shape[:axis], batch_size, *x.shape[axis + 1 :])

        def piece(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            wanted = np.arange(*index[axis].indices(batch_size))
            # A device's rows are neighbours in the batch, and so among the host's rows.
            first = int(np.searchsorted(rows, wanted[0]))
            mine = slice(first, first + len(wanted))
            return x[(*index[:axis], mine, *index[axis + 1 :])]

        return jax.make_array_from_callback(shape, where, piece)

    return jax.tree.map(join, tree)


def _pieces(x: np.ndarray, where: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(x.shape, where, lambda index: x[index or ...])
